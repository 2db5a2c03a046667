"""The loss of a curve: against sums by hand, fitted, alone and several at once."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kd_heuristics import curves, training

A = {"kernel": jnp.array([-1.0, 0.0]), "bias": jnp.float32(2)}
B = {"kernel": jnp.array([1.0, 0.0]), "bias": jnp.float32(-2)}
BEND = {"kernel": jnp.array([0.5, 1.5]), "bias": jnp.float32(0.5)}
KEY = jax.random.key(4)


def network(params, batch_stats, batch, key):
    """A made-up loss: 1 + |kernel - batch|^2, with noise from its key."""
    loss = 1 + jnp.square(params["kernel"] - batch).sum()
    noise = jax.random.normal(key)
    stats = {"seen": batch_stats["seen"] + loss, "count": batch_stats["count"] + 1}
    return loss + noise, (stats, {"loss": loss, "noise": noise})


STATS = {"seen": jnp.float32(0), "count": jnp.int32(5)}
BATCH = jnp.array([0.0, 1.0])


def value(loss, params, ends=(A, B)):
    return loss(ends, network, params, STATS, BATCH, KEY)


@pytest.mark.parametrize(("kind", "at_once"), [("polychain", False), ("bezier", True)])
def test_the_mean_over_several_points(kind, at_once):
    options = {"kind": kind, "num_t": 4, "stratified": True, "at_once": at_once}
    found, (stats, metrics) = jax.jit(
        lambda bend: value(curves.CurveLoss(**options), (bend,))
    )(BEND)
    # Which points and noises are drawn is the loss's own; the rest is not.
    ts = curves.sample_t(jax.random.split(KEY)[0], 4, stratified=True)
    keys = jax.random.split(jax.random.split(KEY)[1], 4)
    noise = np.array([jax.random.normal(key) for key in keys], np.float64)
    make = {"polychain": curves.polychain, "bezier": curves.bezier}[kind]
    kernels = [np.asarray(make([A, BEND, B]).at(t)["kernel"], float) for t in ts]
    losses = [1 + np.square(kernel - [0, 1]).sum() for kernel in kernels]
    np.testing.assert_allclose(found, np.mean(losses) + noise.mean(), rtol=1e-5)
    np.testing.assert_allclose(metrics["loss"], np.mean(losses), rtol=1e-5)
    np.testing.assert_allclose(metrics["noise"], noise.mean(), rtol=1e-5)
    np.testing.assert_allclose(stats["seen"], np.mean(losses), rtol=1e-5)
    assert stats["count"] == 6
    assert len(set(noise)) == 4


def test_points_are_uniform_and_stratified_ones_one_a_part():
    ts = np.asarray(curves.sample_t(KEY, 4000))
    # The mean of n uniform numbers has a deviation of 1 / sqrt(12 n) = .0046.
    assert abs(ts.mean() - 0.5) < 0.02
    assert ts.min() >= 0
    assert ts.max() < 1
    parts = np.asarray(curves.sample_t(KEY, 64, stratified=True))
    np.testing.assert_array_equal(np.floor(parts * 64), np.arange(64))


def test_decay_of_the_interpolated_weights():
    def decay(**options):
        plain = value(curves.CurveLoss(), (BEND,))[0]
        return value(curves.CurveLoss(weight_decay=0.5, **options), (BEND,))[0] - plain

    t = curves.sample_t(jax.random.split(KEY)[0])[0]
    weights = curves.polychain([A, BEND, B]).at(t)
    kernel = np.square(np.asarray(weights["kernel"], float)).sum()
    bias = float(weights["bias"]) ** 2
    # Differences of sums near 3, each rounded by 2e-7.
    np.testing.assert_allclose(decay(), 0.25 * (kernel + bias), atol=1e-6)
    found = decay(decays=lambda name: name == "kernel")
    np.testing.assert_allclose(found, 0.25 * kernel, atol=1e-6)


def still(params, batch_stats, batch, key):
    """Low within a ring: a straight way through the middle is bad."""
    square = jnp.square(params["kernel"]).sum()
    return jnp.square(square - 1), (batch_stats, {})


def batches(seed, step):
    return jnp.zeros(())


def test_fit_finds_a_way_around_one_curve_or_several_at_once():
    loss = curves.CurveLoss(kind="bezier", num_t=4, stratified=True)
    starts = [
        jax.tree.map(lambda x, s=s: x + s, curves.midpoint(A, B)) for s in (0.2, -0.2)
    ]
    objective = jax.tree_util.Partial(loss, (A, B), jax.tree_util.Partial(still))
    optimizer = optax.adam(0.05)
    members = [
        training.Member(
            objective=objective,
            params=(start,),
            batch_stats={},
            optimizer=optimizer,
            stage=str(number),
        )
        for number, start in enumerate(starts)
    ]
    state = training.population(members, batches, num_steps=200)
    for number, start in enumerate(starts):
        alone = training.fit(
            objective, (start,), {}, optimizer, batches, num_steps=200
        )  # fmt: skip
        own = training.member(state, number)
        for x, y in zip(
            jax.tree.leaves(alone.params), jax.tree.leaves(own.params), strict=True
        ):
            np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)
        curve = curves.bezier([A, *alone.params, B])
        ring = jax.vmap(lambda t, c=curve: still(c.at(t), {}, None, None)[0])
        worst = ring(jnp.linspace(0, 1, 21)).max()
        # The straight way has 1 in the middle; a parabola through the ring some .1.
        assert worst < 0.3


def test_with_free_ends_the_curve_itself_is_the_parameters():
    curve = curves.bezier([A, B])
    loss = curves.CurveLoss(num_t=2)
    gradient = jax.grad(lambda c: value(loss, c, ends=None)[0])(curve)
    ts = np.asarray(curves.sample_t(jax.random.split(KEY)[0], 2), float)
    kernels = (1 - ts)[:, None] * [-1.0, 0] + ts[:, None] * [1.0, 0]
    expected = (2 * (kernels - [0, 1]) * ts[:, None]).mean(0)
    np.testing.assert_allclose(gradient.points[1]["kernel"], expected, rtol=1e-5)


def test_equal_losses_are_one_function():
    assert curves.CurveLoss(num_t=2) == curves.CurveLoss(num_t=2)
    assert hash(curves.CurveLoss()) == hash(curves.CurveLoss())


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: curves.CurveLoss(kind="spline"), "got 'spline'"),
        (lambda: curves.CurveLoss(num_t=0), "at least 1, got 0"),
        (lambda: curves.CurveLoss(weight_decay=-1.0), "negative, got -1"),
        (lambda: curves.sample_t(KEY, 0), "at least 1, got 0"),
        (lambda: value(curves.CurveLoss(), BEND), "tuple of bends.*got dict"),
        (lambda: value(curves.CurveLoss(), (BEND,), ends=None), "got tuple"),
        (lambda: value(curves.CurveLoss(), ({"kernel": A["kernel"]},)), "leaf 'bias'"),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(ValueError, match=words):
        call()
