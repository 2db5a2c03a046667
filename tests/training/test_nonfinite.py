"""Infinite and NaN numbers: stopped and named, skipped and counted, or recorded."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_heuristics import checkpoints, training
from tests.grouped import grouped

STEPS = 8
OPTIMIZER = training.sgd(0.1, 0.9)


def objective(params, batch_stats, batch, key):
    """The batch says where it goes wrong: 1 in the value, 2 in one gradient."""
    place, x = batch
    loss = jnp.sum((params["b"]["kernel"] - x) ** 2) + params["a"] ** 2
    # 0 * sqrt(0) is 0, and its derivative NaN.
    root = jnp.sqrt(
        jnp.where(place == 2, 0.0, 1.0) * (1 + params["b"]["kernel"][0] ** 2)
    )
    loss = loss + jnp.where(place == 2, 0.0, 1e-3) * root
    loss = jnp.where(place == 1, jnp.inf, loss)
    mean = jnp.where(place == 3, jnp.nan, batch_stats["mean"])
    return loss, ({"mean": mean}, {"loss": loss})


def batches(places, seed, step):
    return places[step], jnp.cos(step + seed) * jnp.arange(1.0, 4.0)


def fit(places, **options):
    params = {"a": jnp.float32(0.5), "b": {"kernel": jnp.array([1.0, 2.0, 3.0])}}
    return training.fit(
        objective,
        params,
        {"mean": jnp.float32(0)},
        OPTIMIZER,
        jax.tree_util.Partial(batches, jnp.asarray(places)),
        **grouped(
            {"num_steps": STEPS, "log_every_steps": 2, "steps_per_call": 50} | options
        ),
    )


def at(**steps):
    places = np.zeros(STEPS, np.int32)
    for step, place in steps.items():
        places[int(step.removeprefix("s"))] = place
    return places


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (1, "the objective became infinite or NaN in step 5"),
        (2, "the gradient of b/kernel became infinite or NaN in step 5"),
        (3, "the statistic mean became infinite or NaN in step 5"),
    ],
)
def test_it_stops_and_names_step_leaf_and_checkpoint(tmp_path, place, words):
    with pytest.raises(training.NonFiniteError) as stop:
        fit(at(s5=place), directory=tmp_path, stage="own")
    assert str(stop.value).startswith(f"own: {words}")
    assert f"the last good checkpoint: step 4 in {tmp_path}" in str(stop.value)
    assert checkpoints.steps(tmp_path) == [2, 4]


def test_a_parameter_that_overflows_is_named():
    huge = training.sgd(3e38, 0.0)
    params = {"a": jnp.float32(0), "b": {"kernel": jnp.array([10.0, 20.0, 30.0])}}
    with pytest.raises(training.NonFiniteError, match=r"parameter b/kernel .* step 0"):
        training.fit(
            objective,
            params,
            {"mean": jnp.float32(0)},
            huge,
            jax.tree_util.Partial(batches, jnp.zeros(1, jnp.int32)),
            num_steps=1,
        )


@functools.cache
def by_hand(skipped):
    """The same training, one step at a time, without the steps skipped."""
    params = {"a": jnp.float32(0.5), "b": {"kernel": jnp.array([1.0, 2.0, 3.0])}}
    optimizer_state, losses = OPTIMIZER.init(params), {}
    for step in set(range(STEPS)) - set(skipped):
        batch = batches(jnp.zeros(STEPS, jnp.int32), 0, step)
        loss, gradient = jax.value_and_grad(
            lambda params, batch=batch: objective(
                params, {"mean": jnp.float32(0)}, batch, None
            )[0]
        )(params)
        updates, optimizer_state = OPTIMIZER.update(gradient, optimizer_state, params)
        params = jax.tree.map(jnp.add, params, updates)
        losses[step] = float(loss)
    return params, losses


@pytest.mark.parametrize("place", [1, 2, 3])
def test_skipped_updates_are_left_out_and_counted(tmp_path, place):
    metrics = training.MetricsFile(tmp_path / "metrics.jsonl")
    places = at(s2=place, s3=place, s5=place)
    state = fit(places, on_nonfinite="skip", metrics=metrics)
    expected, losses = by_hand((2, 3, 5))
    # float32, compiled in another way: a few units in the last place a step
    jax.tree.map(
        lambda ours, own: np.testing.assert_allclose(ours, own, rtol=1e-5),
        state.params,
        expected,
    )
    assert int(state.step) == STEPS
    assert float(state.batch_stats["mean"]) == 0
    lines = metrics.read()
    assert [line["skipped_updates"] for line in lines] == [0, 2, 1, 0]
    assert lines[1]["loss"] is None  # nothing is left to take the mean of
    np.testing.assert_allclose(lines[2]["loss"], losses[4], rtol=1e-5)


def test_skipping_changes_nothing_where_all_is_finite():
    plain, skipping = (fit(at(), on_nonfinite=how) for how in ("raise", "skip"))
    # Two programs: a few units in the last place a step.
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), plain, skipping
    )


def test_record_goes_on_and_the_lines_hold_null(tmp_path):
    metrics = training.MetricsFile(tmp_path / "metrics.jsonl")
    state = fit(at(s3=1), on_nonfinite="record", metrics=metrics)
    assert int(state.step) == STEPS
    assert [line["loss"] is None for line in metrics.read()][:2] == [False, True]


@pytest.mark.parametrize("at_once", [1, None, 2])
def test_members_are_stopped_and_skipped_each_for_itself(tmp_path, at_once):
    def member(seed, place):
        places = jnp.asarray(at(s5=place))
        return training.Member(
            objective=jax.tree_util.Partial(own, places),
            params={"a": jnp.float32(0.5), "b": {"kernel": jnp.arange(1.0, 4.0)}},
            batch_stats={"mean": jnp.float32(0)},
            optimizer=OPTIMIZER,
            seed=seed,
            stage=f"member {seed}",
        )

    members = [member(0, 0), member(1, 2)]
    options = {"num_steps": STEPS, "log_every_steps": 4, "at_once": at_once}
    with pytest.raises(
        training.NonFiniteError, match=r"member 1: .* of b/kernel .* 5;"
    ):
        training.population(members, steps_of, **grouped(options))
    metrics = training.MetricsFile(tmp_path / "metrics.jsonl")
    state = training.population(
        members,
        steps_of,
        on_nonfinite="skip",
        **grouped(options, metrics=metrics),
    )
    assert np.isfinite(state.params["a"]).all()
    counts = [line["skipped_updates"] for line in metrics.read()]
    assert counts == [0, 0, 0, 1]


def steps_of(seed, step):
    return {"step": step, "x": jnp.cos(step + seed) * jnp.arange(1.0, 4.0)}


def own(places, params, batch_stats, batch, key):
    batch = places[batch["step"]], batch["x"]
    return objective(params, batch_stats, batch, key)
