"""Many points in one pass: against NumPy, in both strategies, with ragged sets."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_heuristics import curves, points
from kd_heuristics.runtime import parallel

X = np.random.RandomState(1).normal(size=(11, 4))
PADDED = np.concatenate([X, np.full((4, 4), np.nan)]).astype(np.float32)
BATCHES = {
    "x": jnp.asarray(PADDED.reshape(3, 5, 4)),
    "mask": jnp.asarray((np.arange(15) < 11).reshape(3, 5)),
}
A, B = np.full(4, 0.25), np.arange(4.0)
TRACES = []


def metric(params, batch_stats, batch):
    TRACES.append(1)
    return {"square": (batch["x"] @ params["w"]) ** 2, "mask": batch["mask"]}


def params_at(t):
    return {
        "w": (1 - t) * jnp.asarray(A, jnp.float32) + t * jnp.asarray(B, jnp.float32)
    }


def oracle(ts):
    return np.array([((X @ ((1 - t) * A + t * B)) ** 2).mean() for t in ts])


@pytest.mark.parametrize("chunk", [1, 2, 3, 8])
@pytest.mark.parametrize("strategy", ["loop", "vmap"])
def test_equals_numpy_with_a_ragged_last_batch(monkeypatch, strategy, chunk):
    monkeypatch.setattr(parallel, "strategies", lambda: {"points": strategy})
    ts = [0.0, 0.3, 0.5, 0.9, 1.0]
    done = []
    values = points.evaluate(
        params_at, ts, BATCHES, metric, chunk=chunk, progress=done.append
    )
    assert set(values) == {"square"}
    # float32 products of 4 terms
    np.testing.assert_allclose(values["square"], oracle(ts), rtol=2e-6)
    assert sum(done) == 5


@pytest.mark.parametrize("strategy", ["loop", "vmap"])
def test_devices_share_the_points_out(monkeypatch, strategy):
    monkeypatch.setattr(parallel, "strategies", lambda: {"points": strategy})

    def refresh(params):
        return {"w": params["w"] / 2}

    def halves(params, batch_stats, batch):
        return metric({"w": params["w"] - batch_stats["w"]}, {}, batch)

    ts = np.linspace(0, 1, 7)  # 4 devices: two chunks of 4, or one of 8
    done = []
    found = points.evaluate(
        curves.polychain([{"w": jnp.float32(A)}, {"w": jnp.float32(B)}]).at,
        ts,
        BATCHES,
        halves,
        refresh,
        mesh=parallel.mesh(4),
        progress=done.append,
    )
    np.testing.assert_allclose(found["square"], oracle(ts) / 4, rtol=2e-6)
    assert done == {"loop": [4, 3], "vmap": [7]}[strategy]


def test_a_point_of_each_device_is_computed_there():
    def where(params, _, batch):
        device = jax.lax.axis_index("data") + jnp.zeros(5)
        return {"device": device, "mask": batch["mask"]}

    ts = np.linspace(0, 1, 8)
    found = points.evaluate(params_at, ts, BATCHES, where, mesh=parallel.mesh(4))
    assert found["device"].tolist() == [0, 1, 2, 3] * 2  # one at a time each, on CPU


def test_planes_have_two_coordinates():
    def at(x, y):
        return {"w": x * jnp.asarray(A, jnp.float32) + y * jnp.asarray(B, jnp.float32)}

    values = points.evaluate(at, [[1.0, 0.0], [0.5, 0.5]], BATCHES, metric)
    np.testing.assert_allclose(values["square"], oracle([0.0, 0.5]), rtol=2e-6)


def test_one_program_for_every_curve():
    points.evaluate(params_at, [0.0, 1.0], BATCHES, metric, chunk=2)
    before = len(TRACES)
    points.evaluate(
        lambda t: params_at(1 - t), [0.1, 0.2, 0.3], BATCHES, metric, chunk=2
    )
    assert len(TRACES) == before


def test_several_sets_share_the_points():
    done = []
    other = {**BATCHES, "x": BATCHES["x"] * 2}
    found = points.evaluate_sets(
        params_at,
        [0.0, 0.5],
        {"train": BATCHES, "test": other},
        metric,
        chunk=2,
        progress=done.append,
    )
    assert set(found) == {"train_square", "test_square"}
    np.testing.assert_allclose(found["train_square"], oracle([0.0, 0.5]), rtol=2e-6)
    np.testing.assert_array_equal(found["test_square"], 4 * found["train_square"])
    assert sum(done) == 4


def test_statistics_are_made_anew_at_each_point():
    def refresh(params):
        return {"scale": params["w"].sum()}

    def scaled(params, batch_stats, batch):
        values = metric(params, batch_stats, batch)
        return values | {"square": values["square"] * batch_stats["scale"]}

    ts = [0.0, 0.3, 1.0]
    found = points.evaluate(params_at, ts, BATCHES, scaled, refresh, 2)["square"]
    sums = np.array([((1 - t) * A + t * B).sum() for t in ts])
    np.testing.assert_allclose(found, oracle(ts) * sums, rtol=2e-6)


def test_a_point_that_overflows_is_kept():
    values = points.evaluate(
        lambda t: jax.tree.map(lambda w: w * 1e30 * t, params_at(0.5)),
        [0.0, 1.0],
        BATCHES,
        metric,
    )
    assert values["square"][0] == 0
    assert np.isinf(values["square"][1])


@pytest.mark.parametrize(
    ("dtype", "value", "expected"),
    [
        (jnp.bfloat16, 1, 437 / 500),  # of 8 bits, the sum would be 436
        (jnp.float16, 200, 200 * 437 / 500),  # the sum is past float16's largest
        (jnp.int32, 2**21 + 1, (2**21 + 1) * 437 / 500),  # float32 would round
        (jnp.bool_, True, 437 / 500),
    ],
)
def test_narrow_metrics_are_summed_in_full(dtype, value, expected):
    values = np.where(np.arange(500) < 437, value, 0)
    batches = {"value": jnp.asarray(values, dtype)[None]}
    found = points.evaluate(lambda t: t, [0.0], batches, lambda params, _, batch: batch)
    np.testing.assert_allclose(found["value"], [expected], rtol=1e-12)


def test_metrics_have_any_name():
    def named(params, _, batch):
        return {"count": batch["x"][:, 0], "mask": batch["mask"]}

    found = points.evaluate(params_at, [0.0], BATCHES, named)
    # float32 inputs
    np.testing.assert_allclose(found["count"], [X[:, 0].mean()], rtol=2e-6)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: points.evaluate(params_at, [], BATCHES, metric), "no point"),
        (
            lambda: points.evaluate(params_at, [0.0], BATCHES, metric, chunk=0),
            "chunk must be at least 1, got 0",
        ),
        (
            lambda: points.evaluate(
                params_at,
                [0.0],
                BATCHES | {"mask": jnp.zeros((3, 5), bool)},
                metric,
            ),
            "no example",
        ),
        (
            lambda: points.evaluate(
                curves.line(params_at(0), params_at(1)).at,
                [0.5, 1.5, np.nan],
                BATCHES,
                metric,
            ),
            r"in \[0, 1\], got \[1.5, nan\]",
        ),
        (
            lambda: points.evaluate_sets(params_at, [0.0], {}, metric),
            "sets is empty",
        ),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(ValueError, match=words):
        call()
