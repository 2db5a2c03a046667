"""The 2x2 pool against flax's, and its gradient where entries tie."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_heuristics.models import pool


@pytest.mark.parametrize(
    "shape", [(2, 4, 6, 3), (1, 2, 2, 1), (2, 5, 7, 2), (0, 4, 4, 1)]
)
@pytest.mark.parametrize("dtype", [np.float32, jnp.bfloat16])
def test_value_and_gradient_are_those_of_flax(shape, dtype):
    """Distinct values, odd sizes: the last row and column get no gradient."""
    rng = np.random.default_rng(0)
    images = rng.permutation(np.prod(shape)).reshape(shape).astype(dtype)

    def theirs(images):
        return nn.max_pool(images, (2, 2), (2, 2))

    weights = rng.standard_normal(jax.eval_shape(theirs, images).shape).astype(dtype)
    actual, expected = (
        jax.jit(jax.value_and_grad(lambda x, f=f: jnp.sum(f(x) * weights)))(images)
        for f in (pool.max_pool_2x2, theirs)
    )
    output = jax.jit(pool.max_pool_2x2)(images)
    assert output.dtype == dtype
    np.testing.assert_array_equal(output, theirs(images))  # maxima are exact
    np.testing.assert_array_equal(actual[1], expected[1])


@pytest.mark.parametrize(
    ("window", "gradient"),
    [
        ([[1, 1], [1, 1]], [[1 / 4, 1 / 4], [1 / 4, 1 / 4]]),
        ([[1, 1], [0, 0]], [[1 / 2, 1 / 2], [0, 0]]),
        ([[0, 1], [0, 1]], [[0, 1 / 2], [0, 1 / 2]]),
        ([[1, 1], [1, 0]], [[1 / 4, 1 / 2], [1 / 4, 0]]),  # rows are compared first
    ],
)
def test_ties_share_the_gradient(window, gradient):
    images = jnp.asarray(window, jnp.float32)[None, :, :, None]
    actual = jax.grad(lambda x: jnp.sum(pool.max_pool_2x2(x)))(images)
    np.testing.assert_array_equal(actual[0, :, :, 0], gradient)


def test_vmap_and_forward_mode():
    images = jax.random.normal(jax.random.key(1), (3, 2, 4, 4, 2))
    mapped = jax.vmap(pool.max_pool_2x2)(images)
    np.testing.assert_array_equal(mapped, pool.max_pool_2x2(images))
    # Piecewise linear: along the images themselves the derivative is the value.
    tangent = jax.jvp(pool.max_pool_2x2, (images,), (images,))[1]
    np.testing.assert_array_equal(tangent, mapped)


@pytest.mark.parametrize("shape", [(1, 1, 4, 2), (1, 4, 1, 2)])
def test_too_small_images_are_refused(shape):
    with pytest.raises(ValueError, match="at least 2x2 pixels"):
        pool.max_pool_2x2(jnp.zeros(shape))
