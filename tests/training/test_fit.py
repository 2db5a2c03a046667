"""The trainer: against a float64 loop, interrupted, and with bad input."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kd_heuristics import checkpoints, training
from kd_heuristics.runtime import parallel
from tests.grouped import grouped

DATA = np.random.RandomState(0).normal(size=(12, 3)).astype(np.float32)


def batches(arrays, seed, step):
    row = (step * 7 + seed) % len(arrays)
    return arrays[row]


BATCHES = jax.tree_util.Partial(batches, jnp.asarray(DATA))
OPTIMIZER = training.sgd(lambda count: 0.1 / (1 + count), 0.9, weight_decay=0.01)
TRACES = []


def objective(params, batch_stats, batch, key):
    TRACES.append(1)
    loss = jnp.sum((params["kernel"] - batch) ** 2) + params["bias"] ** 2
    return loss, ({"count": batch_stats["count"] + 1}, {"loss": loss})


def start():
    return {"kernel": jnp.ones(3), "bias": jnp.float32(0.5)}, {"count": jnp.int32(0)}


def fit(**options):
    options = {"num_steps": 20, "seed": 3, "log_every_steps": 5} | options
    return training.fit(objective, *start(), OPTIMIZER, BATCHES, **grouped(options))


def test_equals_sgd_by_hand(tmp_path):
    metrics = training.MetricsFile(tmp_path / "metrics.jsonl")
    state = fit(metrics=metrics, steps_per_call=3)
    params = {"kernel": np.ones(3), "bias": np.float64(0.5)}
    velocity = {"kernel": np.zeros(3), "bias": np.float64(0)}
    losses = []
    for step in range(20):
        batch = DATA[(step * 7 + 3) % 12].astype(np.float64)
        losses.append(((params["kernel"] - batch) ** 2).sum() + params["bias"] ** 2)
        gradient = {
            "kernel": 2 * (params["kernel"] - batch) + 0.01 * params["kernel"],
            "bias": 2 * params["bias"],  # decay is for kernels
        }
        for name in params:
            velocity[name] = 0.9 * velocity[name] + gradient[name]
            params[name] = params[name] - 0.1 / (1 + step) * velocity[name]
    # float32 over 20 steps: a few units in the last place a step
    for name in params:
        np.testing.assert_allclose(state.params[name], params[name], rtol=2e-5)
    assert int(state.batch_stats["count"]) == int(state.step) == 20
    lines = metrics.read("train")
    assert [line["step"] for line in lines] == [5, 10, 15, 20]
    means = np.reshape(losses, (4, 5)).mean(1)
    np.testing.assert_allclose([line["loss"] for line in lines], means, rtol=2e-5)


class KilledError(Exception):
    pass


@pytest.mark.parametrize("kill_after", [1, 7, 13, 20])
def test_resumed_run_equals_uninterrupted(tmp_path, kill_after):
    files = [training.MetricsFile(tmp_path / name) for name in "ab"]
    whole = fit(metrics=files[0], directory=tmp_path / "whole", keep_steps=[0, 10])
    seen = 0

    def kill(steps, loss):
        nonlocal seen
        seen += steps
        if seen >= kill_after:
            raise KilledError

    options = {
        "metrics": files[1],
        "directory": tmp_path / "cut",
        "keep_steps": [0, 10],
        "steps_per_call": 1,
    }
    with pytest.raises(KilledError):
        fit(progress=kill, **options)
    with files[1].path.open("a") as file:
        file.write('{"stage": "train", "st')  # killed amid a line
    options["steps_per_call"] = 50
    resumed = fit(**options)
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(resumed), strict=True):
        np.testing.assert_array_equal(a, b)
    # The sums of the lines depend on the calls; the steps they stand for do not.
    assert [x["step"] for x in files[0].read()] == [x["step"] for x in files[1].read()]
    for name in ("whole", "cut"):
        assert checkpoints.steps(tmp_path / name) == [0, 10, 15, 20]


def test_metrics_file_is_the_same_after_a_kill(tmp_path):
    files = [training.MetricsFile(tmp_path / name) for name in "ab"]
    fit(metrics=files[0])

    def kill(steps, loss):
        if len(files[1].read()) == 2:
            raise KilledError

    with pytest.raises(KilledError):
        fit(metrics=files[1], directory=tmp_path / "c", progress=kill)
    fit(metrics=files[1], directory=tmp_path / "c")
    assert files[0].path.read_bytes() == files[1].path.read_bytes()


def test_compiles_once_for_any_seed_length_and_bound_array():
    fit()
    before = len(TRACES)
    fit(seed=5, num_steps=7, log_every_steps=2)
    other = jax.tree_util.Partial(batches, jnp.asarray(DATA) + 1)
    training.fit(objective, *start(), OPTIMIZER, other, num_steps=3)
    assert len(TRACES) == before


def test_bound_rates_share_a_program_and_equal_unbound_ones():
    def run(optimizer):
        return training.fit(objective, *start(), optimizer, BATCHES, num_steps=4)

    first = run(training.bind(training.sgd, jnp.float32(0.1)))
    before = len(TRACES)
    second = run(training.bind(training.sgd, jnp.float32(0.01)))
    assert len(TRACES) == before
    for rate, bound in ((0.1, first), (0.01, second)):
        plain = run(training.sgd(rate))
        np.testing.assert_allclose(
            bound.params["kernel"], plain.params["kernel"], rtol=1e-6
        )


def test_leaves_the_callers_arrays_alone():
    params, batch_stats = start()
    training.fit(objective, params, batch_stats, OPTIMIZER, BATCHES, num_steps=2)
    np.testing.assert_array_equal(params["kernel"], np.ones(3))


class DrawingState(NamedTuple):
    key: jax.Array
    again: jax.Array  # the same buffer
    start: dict
    rate: float  # no array


def drawing():
    def init(params):
        key = jax.random.key(0)
        return DrawingState(key, key, params, 0.5)

    def update(updates, state, params=None):
        rate = state.rate * jax.random.uniform(state.key)
        return jax.tree.map(lambda u: -rate * u, updates), state

    return optax.GradientTransformation(init, update)


@pytest.mark.parametrize("mesh", [None, parallel.mesh(2)])
@pytest.mark.parametrize(
    "optimizer",
    [optax.contrib.prodigy(0.1), optax.contrib.dog(), drawing()],
    ids=["prodigy", "dog", "a key"],
)
def test_an_optimizer_may_keep_the_parameters_in_its_state(optimizer, mesh):
    params = {"kernel": jnp.ones(4)}

    def objective(params, batch_stats, batch, key):
        return jnp.sum(batch @ params["kernel"]) ** 2, (batch_stats, {})

    state = training.fit(
        objective,
        params,
        {},
        optimizer,
        lambda seed, step: jnp.ones((2, 4)),
        num_steps=3,
        steps_per_call=2,
        mesh=mesh,
    )
    assert jnp.isfinite(state.params["kernel"]).all()
    assert (state.params["kernel"] < 1).all()
    np.testing.assert_array_equal(params["kernel"], np.ones(4))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_steps": 0}, "num_steps must be at least 1, got 0"),
        ({"log_every_steps": 0}, "log_every_steps must be at least 1"),
        ({"steps_per_call": -1}, "steps_per_call must be at least 1, got -1"),
        ({"on_nonfinite": "skipp"}, "did you mean 'skip'"),
        ({"keep_steps": [21]}, r"keep_steps must lie in \[0, 20\], got \[21\]"),
    ],
)
def test_bad_input(options, words):
    with pytest.raises(ValueError, match=words):
        fit(**options)


def test_clipping_is_by_global_norm():
    optimizer = training.sgd(1.0, 0.0, clip_norm=1.0)
    params = {"kernel": jnp.array([3.0, 0.0]), "bias": jnp.float32(4.0)}
    updates, _ = optimizer.update(params, optimizer.init(params), params)
    np.testing.assert_allclose(updates["kernel"], [-0.6, 0.0], rtol=1e-6)
    np.testing.assert_allclose(updates["bias"], -0.8, rtol=1e-6)


@pytest.mark.parametrize("name", ["step", "stage", "steps", "skipped_updates"])
def test_a_metric_that_would_hide_a_field_of_the_line_is_refused(tmp_path, name):
    file = training.MetricsFile(tmp_path / "metrics.jsonl")

    def named(params, batch_stats, batch, key):
        loss, (batch_stats, _) = objective(params, batch_stats, batch, key)
        return loss, (batch_stats, {name: loss})

    words = f"a metric cannot be named '{name}'"
    with pytest.raises(ValueError, match=words):
        training.fit(
            named,
            *start(),
            OPTIMIZER,
            BATCHES,
            num_steps=2,
            logging=training.Logging(metrics=file),
        )
    assert not file.path.exists()
    if name == "steps":  # an evaluation's is in nobody's way
        fit(num_steps=1, evaluate=lambda state: {name: 0.5}, metrics=file)
        assert file.read()[-1][name] == 0.5
        return
    with pytest.raises(ValueError, match=words):
        fit(evaluate=lambda state: {name: 0.5}, metrics=file)
    assert not file.path.exists()


def test_no_line_without_its_own_fields(tmp_path):
    file = training.MetricsFile(tmp_path / "metrics.jsonl")
    with pytest.raises(ValueError, match="a metric cannot be named 'step'"):
        file.append("train", 1, {"step": 0.5})
    assert not file.path.exists()


def test_narrow_metrics_are_summed_in_float32(tmp_path):
    def narrow(params, batch_stats, batch, key):
        return params, (batch_stats, {"one": jnp.bfloat16(1)})

    metrics = training.MetricsFile(tmp_path / "metrics.jsonl")
    start = jnp.float32(0), {}, optax.sgd(0.0)
    options = {"num_steps": 300, "log_every_steps": 300, "steps_per_call": 300}
    training.fit(narrow, *start, BATCHES, **grouped(options, metrics=metrics))
    (line,) = metrics.read("train")
    assert line["one"] == 1  # in bfloat16, 256 and 1 are 256


FORMS = {
    "plain": {},
    "micro-batches": {"micro_batches": 4},
    "mesh": {"mesh": parallel.mesh(2)},
    "devices": {"mesh": parallel.mesh(2), "batch_norm": "device"},
    "skip": {"on_nonfinite": "skip"},
    "one by one": {"at_once": 1, "micro_batches": 2},
    "two at once": {"at_once": 2},
    "all at once": {"at_once": 4},
    "members": {"mesh": parallel.mesh(2), "spread": "members"},
}


@pytest.mark.parametrize("form", FORMS)
def test_an_objective_is_traced_once(form):
    traces, options = [], FORMS[form] | {"num_steps": 3, "steps_per_call": 2}

    def counted(params, batch_stats, batch, key):
        traces.append(1)
        return jnp.sum((params - batch.mean()) ** 2), (batch_stats, {})

    own = counted, jnp.ones(3), {}, optax.adam(0.1)
    read = jax.tree_util.Partial(rows)
    if form in ("one by one", "two at once", "all at once", "members"):
        names = "objective", "params", "batch_stats", "optimizer"
        member = training.Member(**dict(zip(names, own, strict=True)))
        training.population([member] * 4, read, **grouped(options))
    else:
        training.fit(*own, read, **grouped(options))
    assert len(traces) == 1


def rows(seed, step):
    return jnp.sin(seed + step + jnp.arange(8.0))


def test_evaluate_may_keep_what_it_is_given():
    kept = []

    def evaluate(state):
        kept.append(state)
        return {"number": 1}

    fit(num_steps=20, log_every_steps=5, steps_per_call=2, evaluate=evaluate)
    for index, state in enumerate(kept):
        stop = 5 * (index + 1)
        assert int(state.step) == stop
        expected = fit(num_steps=stop)
        jax.tree.map(np.testing.assert_array_equal, state, expected)


@pytest.mark.parametrize("shape", [(2,), (1, 1), (3, 2)])
def test_an_evaluation_that_is_no_number_is_refused(tmp_path, shape):
    file = training.MetricsFile(tmp_path / "metrics.jsonl")
    with pytest.raises(ValueError, match=rf"'top'.* got shape \[{shape[0]}.*\]"):
        fit(evaluate=lambda state: {"top": np.ones(shape)}, metrics=file)
    assert not file.path.exists()


@pytest.mark.parametrize("size", [3, 4095, 4096, 100_000])
@pytest.mark.parametrize("place", ["gradient", "statistic"])
def test_one_nan_among_many_numbers_is_found(size, place):
    """A maximum of 4,096 numbers or more loses it on CPU (jax 0.10.2)."""

    def broken(params, batch_stats, batch, key):
        bad = jnp.where(jnp.arange(size) == size // 2, jnp.nan, 1.0)
        if place == "statistic":
            return jnp.sum(params**2), ({"mean": bad}, {})
        # 0 * sqrt(0): the value is 0, its derivative NaN.
        root = jnp.sqrt(jnp.where(jnp.isnan(bad), 0.0, 1.0) * (1 + params**2))
        return (0.0 * root).sum(), (batch_stats, {})

    own = broken, jnp.ones(size), {"mean": jnp.zeros(size)}, optax.sgd(0.1)
    with pytest.raises(training.NonFiniteError, match=f"the {place} .*in step 0"):
        training.fit(*own, rows, num_steps=1)
