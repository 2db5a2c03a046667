"""Metrics of every type, through every way of training, against NumPy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kd_heuristics import training
from kd_heuristics.runtime import parallel
from tests.grouped import grouped

STEPS, BATCH = 10, 8
RNG = np.random.RandomState(0)
# What each example of each step adds to a metric: of large numbers, and not constant.
VALUES = {
    "bool": RNG.randint(0, 2, (STEPS, BATCH)).astype(bool),
    "true": np.ones((STEPS, BATCH), bool),
    "uint8": RNG.randint(150, 256, (STEPS, BATCH)).astype(np.uint8),
    "int8": RNG.randint(90, 128, (STEPS, BATCH)).astype(np.int8),
    "int16": RNG.randint(-(2**15), -(2**14), (STEPS, BATCH)).astype(np.int16),
    "int32": RNG.randint(10**9, 2 * 10**9, (STEPS, BATCH)).astype(np.int32),
    "uint32": RNG.randint(3 * 10**9, 4 * 10**9, (STEPS, BATCH)).astype(np.uint32),
    "float16": np.full((STEPS, BATCH), 3e4, np.float16),
    "bfloat16": np.ones((STEPS, BATCH), jnp.bfloat16),
    "float32": RNG.normal(size=(STEPS, BATCH)).astype(np.float32),
}
TABLES = {name: jnp.asarray(table) for name, table in VALUES.items()}


def objective(params, batch_stats, batch, key):
    """A metric of each type that is the same for all examples it is given."""
    metrics = {name: table.reshape(-1)[0] for name, table in batch.items()}
    return params**2, (batch_stats, metrics)


def batches(tables, seed, step):
    return {name: table[step] for name, table in tables.items()}


def constant(tables):
    """All examples of a step alike, so that a part's metric is the batch's."""
    return {
        name: jnp.broadcast_to(table[:, :1], table.shape)
        for name, table in tables.items()
    }


def fit(file, tables, **options):
    arguments = objective, jnp.float32(1), {}, optax.sgd(0.1)
    read = jax.tree_util.Partial(batches, tables)
    training.fit(*arguments, read, num_steps=STEPS, **grouped(options, metrics=file))
    return file.read("train")[-1]


def population(file, tables, **options):
    own = objective, jnp.float32(1), {}, optax.sgd(0.1)
    names = "objective", "params", "batch_stats", "optimizer"
    members = [
        training.Member(**dict(zip(names, own, strict=True)), stage=stage)
        for stage in "ab"
    ]
    read = jax.tree_util.Partial(batches, tables)
    training.population(
        members, read, num_steps=STEPS, **grouped(options, metrics=file)
    )
    lines = [file.read(stage)[-1] for stage in "ab"]
    assert all(lines[0][name] == lines[1][name] for name in VALUES)
    return lines[0]


WAYS = {
    "fit": (fit, {}),
    "fit, many calls": (fit, {"steps_per_call": 3}),
    "fit, micro-batches": (fit, {"micro_batches": 2}),
    "fit, skip": (fit, {"on_nonfinite": "skip"}),
    "one by one": (population, {"at_once": 1}),
    "at once": (population, {"at_once": 2}),
    "members, micro-batches": (population, {"micro_batches": 4}),
}


def assert_means(line, expected):
    for name, mean in expected.items():
        # Sums of ten float32: a few units in the last place.
        assert line[name] == pytest.approx(mean, rel=1e-6), name


@pytest.mark.parametrize("way", WAYS)
def test_the_mean_of_any_type(tmp_path, way):
    train, options = WAYS[way]
    line = train(training.MetricsFile(tmp_path / "m"), constant(TABLES), **options)
    assert_means(
        line, {k: v[:, 0].astype(np.float64).mean() for k, v in VALUES.items()}
    )


@pytest.mark.parametrize("parts", [1, 2])
def test_the_mean_over_devices_of_any_type(tmp_path, parts):
    """Each device reports its own first example."""
    line = fit(
        training.MetricsFile(tmp_path / "m"),
        TABLES,
        mesh=parallel.mesh(4),
        batch_norm="device",
        micro_batches=parts,
    )
    # Device d has the examples 2 d and 2 d + 1, and one of them a part.
    seen = slice(None, None, 2) if parts == 1 else slice(None)
    expected = {k: v[:, seen].astype(np.float64).mean() for k, v in VALUES.items()}
    assert_means(line, expected)


def test_a_count_among_the_statistics_is_the_mean_over_devices():
    def counting(params, batch_stats, batch, key):
        seen = batch_stats["seen"] + batch.sum(dtype=jnp.int32)
        steps = batch_stats["steps"] + jnp.uint8(1)
        return params**2, ({"seen": seen, "steps": steps}, {})

    state = training.fit(
        counting,
        jnp.float32(1),
        {"seen": jnp.int32(2**30), "steps": jnp.uint8(200)},
        optax.sgd(0.1),
        lambda seed, step: jnp.arange(8, dtype=jnp.int32),
        num_steps=3,
        mesh=parallel.mesh(4),
        batch_norm="device",
    )
    # The devices see 1, 5, 9 and 13.
    assert int(state.batch_stats["seen"]) == 2**30 + 3 * 7
    assert int(state.batch_stats["steps"]) == 203


def returning(found):
    """An objective that returns `found(loss, batch_stats)`."""

    def wrong(params, batch_stats, batch, key):
        return found(jnp.sum(params**2), batch_stats)

    return wrong


BAD = {
    "metric of shape": (
        lambda loss, stats: (loss, (stats, {"top": jnp.ones(2)})),
        ValueError,
        r"metric 'top' must be a scalar, got shape \[2\]",
    ),
    "metric of one": (
        lambda loss, stats: (loss, (stats, {"top": loss[None]})),
        ValueError,
        r"metric 'top' must be a scalar, got shape \[1\]",
    ),
    "nested": (
        lambda loss, stats: (loss, (stats, {"top": {"one": loss}})),
        TypeError,
        "metric 'top' must be a number, got dict",
    ),
    "complex": (
        lambda loss, stats: (loss, (stats, {"top": loss * 1j})),
        ValueError,
        "metric 'top' must be a real number, got complex64",
    ),
    "loss of shape": (
        lambda loss, stats: (loss * jnp.ones(3), (stats, {})),
        ValueError,
        r"the objective's loss must be a scalar, got shape \[3\]",
    ),
    "loss of integers": (
        lambda loss, stats: (loss.astype(int), (stats, {})),
        ValueError,
        "the objective's loss must be a float, got int32",
    ),
    "no statistics": (
        lambda loss, stats: (loss, {"a": loss, "b": loss}),
        TypeError,
        r"must return \(loss, \(batch_stats, metrics\)\).* got \(float32\[\], dict\)",
    ),
    "a loss alone": (
        lambda loss, stats: loss,
        TypeError,
        r"must return \(loss, \(batch_stats, metrics\)\).* got float32\[\]",
    ),
    "other statistics": (
        lambda loss, stats: (loss, ({"mean": loss, "new": loss}, {})),
        ValueError,
        r"the statistics \['mean'\] but returns \['mean', 'new'\]",
    ),
    "statistic of shape": (
        lambda loss, stats: (loss, ({"mean": jnp.ones(2)}, {})),
        ValueError,
        r"'mean' starts as float32\[\], but the objective returns float32\[2\]",
    ),
    "statistic of integers": (
        lambda loss, stats: (loss, ({"mean": jnp.int32(1)}, {})),
        ValueError,
        r"'mean' starts as float32\[\], but the objective returns int32\[\]",
    ),
}


@pytest.mark.parametrize("trains", ["fit", "population", "micro-batches"])
@pytest.mark.parametrize("case", BAD)
def test_what_an_objective_may_not_return(tmp_path, case, trains):
    found, error, words = BAD[case]
    own = {
        "objective": returning(found),
        "params": jnp.ones(2),
        "batch_stats": {"mean": jnp.float32(0)},
        "optimizer": optax.sgd(0.1),
    }
    options = {
        "batches": lambda seed, step: jnp.ones(4),
        "num_steps": 2,
        "metrics": training.MetricsFile(tmp_path / "m"),
        "directory": tmp_path / "checkpoints",
        "keep_steps": [0],
    }
    members = [training.Member(**own, stage=stage) for stage in "ab"]
    call = {
        "fit": lambda: training.fit(**grouped(own, options)),
        "population": lambda: training.population(members, **grouped(options)),
        "micro-batches": lambda: training.fit(micro_batches=2, **grouped(own, options)),
    }[trains]
    with pytest.raises(error, match=words):
        call()
    assert not list(tmp_path.iterdir())


def test_statistics_stay_in_the_floats_they_start_in():
    state = training.fit(
        returning(lambda loss, stats: (loss, ({"mean": loss}, {}))),
        jnp.ones(2),
        {"mean": jnp.bfloat16(0)},
        optax.sgd(0.0),
        lambda seed, step: jnp.ones(4),
        num_steps=2,
        micro_batches=2,
    )
    assert state.batch_stats["mean"].dtype == jnp.bfloat16
    assert float(state.batch_stats["mean"]) == 2


def test_gradients_of_many_micro_batches_add_up_in_float32():
    """512 equal parts: a bfloat16 sum of ones stops growing at 256."""

    def objective(params, batch_stats, batch, key):
        del batch, key
        return params["w"].sum().astype(jnp.float32), (batch_stats, {})

    state = training.fit(
        objective,
        {"w": jnp.zeros(1, jnp.bfloat16)},
        {},
        optax.sgd(1.0),
        lambda seed, step: {"x": jnp.ones(512)},
        num_steps=1,
        micro_batches=512,
    )
    assert state.params["w"].dtype == jnp.bfloat16
    assert float(state.params["w"][0]) == -1.0
