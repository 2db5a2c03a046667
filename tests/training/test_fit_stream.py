"""Training from a stream equals training from the same batches in memory."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kd_heuristics import data, training
from kd_heuristics.runtime import parallel
from tests.data import prepared_fixture as fixture
from tests.grouped import grouped

VIEW = data.views.create("mix", teacher_size=4)
OPTIMIZER = optax.sgd(1e-6)
STEPS = 7


@pytest.fixture(scope="module", autouse=True)
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    fixture.write(folder, "caltech_birds2011", {"train": 11, "test": 2})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TFDS_DATA_DIR", str(folder))
        yield


def stream(**options):
    return data.stream("caltech_birds2011", "train", 4, 5, view=VIEW, **options)


def objective(params, batch_stats, batch, key):
    seen = VIEW.finish(batch, key)
    found = seen["student"].mean((1, 2)) @ params - batch["labels"]
    value = (found**2).mean()
    return value, (batch_stats, {"loss": value})


def fit(batches, num_steps=STEPS, **options):
    return training.fit(
        objective,
        jnp.zeros(3),
        {},
        OPTIMIZER,
        batches,
        num_steps=num_steps,
        seed=1,
        steps_per_call=3,
        **grouped(options, log_every_steps=5),
    ).params


@pytest.fixture(scope="module")
def expected():
    """With all batches in memory, looked up by their step."""
    read = stream()
    batches = [read(step) for step in range(STEPS)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *batches)

    def look_up(stacked, seed, step):
        return jax.tree.map(lambda leaf: leaf[step], stacked)

    return fit(jax.tree_util.Partial(look_up, stacked))


def test_from_a_stream(expected):
    np.testing.assert_array_equal(fit(stream()), expected)
    assert np.abs(expected).max() > 0


def test_resumed_from_a_stream(expected, tmp_path):
    fit(stream(), num_steps=5, directory=tmp_path)
    found = fit(stream(), directory=tmp_path)
    np.testing.assert_array_equal(found, expected)


def test_on_a_mesh(expected):
    mesh = parallel.mesh(2)
    # Sums over two devices are rounded elsewhere.
    np.testing.assert_allclose(fit(stream(mesh=mesh), mesh=mesh), expected, rtol=1e-5)
    with pytest.raises(ValueError, match="give the same mesh to both"):
        fit(stream(), mesh=mesh)
    with pytest.raises(ValueError, match="micro-batches"):
        fit(stream(), micro_batches=3)


def test_lines_count_the_examples_that_stand_in_for_bad_records(tmp_path, monkeypatch):
    def encoded(number):
        picture = fixture.encode(fixture.picture(number))
        return picture[:60] if number == 3 else picture

    fixture.write(tmp_path, "caltech_birds2011", {"train": 12, "test": 2}, encoded)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    bad = {"on_bad": "skip", "bad_share": 0.1}
    metrics = training.MetricsFile(tmp_path / "metrics.jsonl")
    fit(stream(**bad), 12, metrics=metrics)
    found = {line["step"]: line["substituted"] for line in metrics.read("train")}
    # Of steps 0 to 4, 5 to 9, 10 and 11.
    shares = [float(stream(**bad)(step)["substituted"].mean()) for step in range(12)]
    expected = {5: shares[:5], 10: shares[5:10], 12: shares[10:]}
    assert found == pytest.approx({k: np.mean(v) for k, v in expected.items()})
    assert sum(shares) * 4 == 4  # once in each of four epochs
