"""Batch norm against flax's with one group and against NumPy with more."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_heuristics.models.normalization import BatchNorm
from tests.models import oracles
from tests.modes import enable_x64

rng = np.random.default_rng(0)
X = jnp.asarray(rng.normal(2.0, 3.0, size=(6, 4, 3, 5)), jnp.float32)
VARIABLES = {
    "params": {
        "scale": jnp.asarray(rng.normal(size=5), jnp.float32),
        "bias": jnp.asarray(rng.normal(size=5), jnp.float32),
    },
    "batch_stats": {
        "mean": jnp.asarray(rng.normal(size=5), jnp.float32),
        "var": jnp.asarray(rng.uniform(0.5, 2.0, size=5), jnp.float32),
    },
}


def run(layer, variables=VARIABLES, x=X):
    y, updated = jax.jit(functools.partial(layer.apply, mutable=["batch_stats"]))(
        variables, x
    )
    return y, updated.get("batch_stats")


@pytest.mark.parametrize("evaluation", [False, True])
@pytest.mark.parametrize("x", [X, X[:, 0, 0], X.astype(jnp.bfloat16)])
def test_one_group_is_flax(evaluation, x):
    options = {"use_running_average": evaluation, "momentum": 0.7, "dtype": x.dtype}
    ours = BatchNorm(**options)
    theirs = nn.BatchNorm(epsilon=1e-5, use_fast_variance=False, **options)
    y, stats = run(ours, x=x)
    expected, expected_stats = run(theirs, x=x)
    assert y.dtype == expected.dtype
    # bfloat16 holds 8 bits, and one rounding may fall on the other side
    tolerance = 1e-2 if x.dtype == jnp.bfloat16 else 1e-5
    np.testing.assert_allclose(
        y.astype(jnp.float32), expected.astype(jnp.float32), tolerance, tolerance
    )
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-6), stats, expected_stats
    )
    made = ours.init(jax.random.key(0), x)
    assert jax.tree.structure(made) == jax.tree.structure(VARIABLES)
    jax.tree.map(np.testing.assert_array_equal, made, theirs.init(jax.random.key(0), x))


def test_one_group_has_the_gradient_of_flax():
    def gradient(layer):
        def loss(variables, x):
            y, _ = layer.apply(variables, x, mutable=["batch_stats"])
            return jnp.sum(jnp.sin(y))

        return jax.jit(jax.grad(loss, argnums=(0, 1)))(VARIABLES, X)

    ours, theirs = (
        gradient(kind(use_running_average=False, **options))
        for kind, options in ((BatchNorm, {}), (nn.BatchNorm, {"dtype": jnp.float32}))
    )
    # float32: a difference of sums over 72 entries of order 1
    compare = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
    jax.tree.map(compare, ours, theirs)


@pytest.mark.parametrize("groups", [2, 3])
def test_groups_have_statistics_of_their_own(groups):
    y, stats = run(BatchNorm(use_running_average=False, momentum=0.7, groups=groups))
    variables = oracles.doubles(VARIABLES)
    expected, moved = oracles.normalise_batch(
        oracles.doubles(X),
        variables["params"],
        variables["batch_stats"],
        groups,
        momentum=0.7,
    )
    np.testing.assert_allclose(y, expected, atol=1e-5)  # float32, values of order 1
    # and a mean may cancel with the running one
    compare = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    jax.tree.map(compare, dict(stats), moved)


def test_groups_do_not_matter_in_evaluation():
    y, stats = run(BatchNorm(use_running_average=True, groups=4))  # 4 do not divide 6
    expected, _ = run(BatchNorm(use_running_average=True))
    np.testing.assert_array_equal(y, expected)
    jax.tree.map(np.testing.assert_array_equal, stats, VARIABLES["batch_stats"])


def test_statistics_of_bfloat16_are_computed_in_float32():
    x = (300 + X).astype(jnp.bfloat16)
    layer = BatchNorm(use_running_average=False, momentum=0.0, dtype=jnp.bfloat16)
    y, stats = run(layer, x=x)
    assert y.dtype == jnp.bfloat16
    rounded = np.asarray(x, np.float64)
    # a mean in bfloat16 would be wrong by up to 1, of a variance of about 9
    np.testing.assert_allclose(stats["mean"], rounded.mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(stats["var"], rounded.var((0, 1, 2)), rtol=1e-5)


def test_running_statistics_stay_float32_under_x64():
    with enable_x64(True):
        layer = BatchNorm(use_running_average=False, dtype=jnp.float64)
        y, stats = run(layer, x=X.astype(jnp.float64))
    assert y.dtype == jnp.float64
    assert {leaf.dtype for leaf in jax.tree.leaves(stats)} == {np.dtype(np.float32)}


def test_groups_that_do_not_divide_the_batch_are_refused():
    layer = BatchNorm(use_running_average=False, groups=4)
    with pytest.raises(ValueError, match="got 4 groups for 6 examples"):
        run(layer)
