"""Pooling that is as fast backwards as forwards on every platform."""

import jax
import jax.numpy as jnp
from jaxtyping import Float


def max_pool_2x2(
    images: Float[jax.Array, "*batch h w c"],
) -> Float[jax.Array, "*batch h//2 w//2 c"]:
    """The largest value of each 2x2 window: `flax.linen.max_pool(_, (2, 2), (2, 2))`.

    out[n, i, j, c] = max over a, b in {0, 1} of images[n, 2 i + a, 2 j + b, c]

    An odd last row or column is dropped, as "VALID" padding does. Maxima of strided
    slices, rather than `jax.lax.reduce_window`, whose gradient is slow on CPU.

    Ties: the maximum is taken over rows, then over columns, and each passes half of
    its gradient to each of two equal entries: four equal entries get a quarter each.
    `reduce_window` gives everything to the first. Behind a ReLU the two differ only
    in its zeros, whose gradient it stops.

    Args:
      images: float [..., h, w, c] with h, w >= 2.

    Returns: float [..., h // 2, w // 2, c].

    Raises: ValueError where a side is shorter than 2 pixels.

    >>> max_pool_2x2(jnp.arange(16.0).reshape(1, 4, 4, 1))[0, :, :, 0]
    Array([[ 5.,  7.],
           [13., 15.]], dtype=float32)
    """
    height, width = images.shape[-3:-1]
    if height < 2 or width < 2:
        raise ValueError(
            f"a 2x2 pool needs at least 2x2 pixels, got {height}x{width}; leave out "
            "the pool or feed larger images"
        )
    even = images[..., : height // 2 * 2, : width // 2 * 2, :]
    rows = jnp.maximum(even[..., 0::2, :, :], even[..., 1::2, :, :])
    return jnp.maximum(rows[..., 0::2, :], rows[..., 1::2, :])
