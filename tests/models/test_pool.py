"""The pools against flax's, and their gradients where entries tie."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_heuristics.models import pool


def flax_2x2(images):
    return nn.max_pool(images, (2, 2), (2, 2))


def flax_3x3(images):
    return nn.max_pool(images, (3, 3), (2, 2), ((1, 1), (1, 1)))


@pytest.mark.parametrize(
    ("ours", "theirs", "shape"),
    [
        *(
            (pool.max_pool_2x2, flax_2x2, shape)
            for shape in ((2, 4, 6, 3), (1, 2, 2, 1), (2, 5, 7, 2), (0, 4, 4, 1))
        ),
        *(
            (pool.max_pool_3x3, flax_3x3, shape)
            for shape in ((2, 4, 6, 3), (1, 1, 2, 1), (2, 5, 7, 2), (0, 4, 4, 1))
        ),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, jnp.bfloat16])
def test_value_and_gradient_are_those_of_flax(ours, theirs, shape, dtype):
    """Distinct values, of both signs, so that padding by zeros would show."""
    rng = np.random.default_rng(0)
    images = rng.permutation(np.prod(shape)).reshape(shape)
    images = (images - images.size // 2).astype(dtype)
    # small integers: sums of several windows' gradients are exact in bfloat16
    size = jax.eval_shape(theirs, images).shape
    weights = rng.integers(-8, 8, size).astype(dtype)
    actual, expected = (
        jax.jit(jax.value_and_grad(lambda x, f=f: jnp.sum(f(x) * weights)))(images)
        for f in (ours, theirs)
    )
    output = jax.jit(ours)(images)
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


def test_ties_of_three_share_the_gradient():
    images = jnp.ones((1, 3, 1, 1))
    # the windows of rows (-, 0, 1) and (1, 2, -): halves of halves, padding has none
    actual = jax.grad(lambda x: jnp.sum(pool.max_pool_3x3(x)))(images)
    np.testing.assert_array_equal(actual[0, :, 0, 0], [1 / 2, 1 / 2 + 1 / 2, 1 / 2])
    inner = jnp.asarray([0, 1, 1, 1, 0], jnp.float32)[None, :, None, None]
    actual = jax.grad(lambda x: pool.max_pool_3x3(x)[0, 1, 0, 0])(inner)
    np.testing.assert_array_equal(actual[0, :, 0, 0], [0, 1 / 4, 1 / 4, 1 / 2, 0])


@pytest.mark.parametrize("max_pool", [pool.max_pool_2x2, pool.max_pool_3x3])
def test_vmap_and_forward_mode(max_pool):
    images = jax.random.normal(jax.random.key(1), (3, 2, 4, 4, 2))
    mapped = jax.vmap(max_pool)(images)
    np.testing.assert_array_equal(mapped, max_pool(images))
    # Piecewise linear: along the images themselves the derivative is the value.
    tangent = jax.jvp(max_pool, (images,), (images,))[1]
    np.testing.assert_array_equal(tangent, mapped)


@pytest.mark.parametrize("shape", [(1, 1, 4, 2), (1, 4, 1, 2)])
def test_too_small_images_are_refused(shape):
    with pytest.raises(ValueError, match="at least 2x2 pixels"):
        pool.max_pool_2x2(jnp.zeros(shape))


def test_no_pixels_are_refused():
    with pytest.raises(ValueError, match="at least 1x1 pixels, got 0x4"):
        pool.max_pool_3x3(jnp.zeros((1, 0, 4, 2)))
