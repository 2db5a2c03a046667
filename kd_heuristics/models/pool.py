"""Max-pools with a fast gradient on every platform."""

import jax
import jax.numpy as jnp
from jaxtyping import Float


def max_pool_2x2(
    images: Float[jax.Array, "*batch h w c"],
) -> Float[jax.Array, "*batch h//2 w//2 c"]:
    """Max-pools 2x2 windows, like `flax.linen.max_pool(_, (2, 2), (2, 2))`.

    out[n, i, j, c] = max over a, b in {0, 1} of images[n, 2 i + a, 2 j + b, c]

    An odd last row or column is dropped, as "VALID" padding does. It takes maxima of
    strided slices, because the gradient of `jax.lax.reduce_window` is slow on CPU.

    Ties: the maximum is taken over rows, then over columns. Each passes half of its
    gradient to each of two equal entries, so four equal entries get a quarter each.
    `reduce_window` gives all of it to the first entry. After a ReLU the two differ only
    at its zeros, whose gradient the ReLU stops.

    Args:
      images: float [..., h, w, c] with h, w >= 2.

    Returns: float [..., h // 2, w // 2, c].

    Raises: ValueError if a side is shorter than 2 pixels.

    >>> max_pool_2x2(jnp.arange(16.0).reshape(1, 4, 4, 1))[0, :, :, 0]
    Array([[ 5.,  7.],
           [13., 15.]], dtype=float32)
    """
    height, width = _sides(images, "2x2", 2)
    even = images[..., : height // 2 * 2, : width // 2 * 2, :]
    rows = jnp.maximum(even[..., 0::2, :, :], even[..., 1::2, :, :])
    return jnp.maximum(rows[..., 0::2, :], rows[..., 1::2, :])


def max_pool_3x3(
    images: Float[jax.Array, "*batch h w c"],
) -> Float[jax.Array, "*batch (h+1)//2 (w+1)//2 c"]:
    """Max-pools 3x3 windows with stride 2 and padding 1.

    out[n, i, j, c] = max over a, b in {-1, 0, 1} of images[n, 2 i + a, 2 j + b, c]

    Pixels outside the map do not count. It equals `flax.linen.max_pool(_, (3, 3), (2,
    2), ((1, 1), (1, 1)))`, without `jax.lax.reduce_window` (see `max_pool_2x2`).

    Ties: rows are compared first, then columns, each as max(max(a, b), c). Each maximum
    passes half of its gradient to each of two equal entries. `reduce_window` gives all
    of it to the first entry.

    Args:
      images: float [..., h, w, c] with h, w >= 1.

    Returns: float [..., (h + 1) // 2, (w + 1) // 2, c].

    Raises: ValueError if a side has no pixel.

    >>> max_pool_3x3(jnp.arange(16.0).reshape(1, 4, 4, 1))[0, :, :, 0]
    Array([[ 5.,  7.],
           [13., 15.]], dtype=float32)
    """
    _sides(images, "3x3", 1)
    return _max_of_three(_max_of_three(images, -3), -2)


def _sides(images, window: str, least: int) -> tuple[int, int]:
    """Returns height and width; raises ValueError if one is below `least`."""
    height, width = images.shape[-3:-1]
    if min(height, width) < least:
        raise ValueError(
            f"a {window} pool needs at least {least}x{least} pixels, got "
            f"{height}x{width}; leave out the pool or feed larger images"
        )
    return height, width


def _max_of_three(images, axis):
    """Computes max(x[2 i - 1], x[2 i], x[2 i + 1]) along an axis, padded with -inf."""
    size = images.shape[axis]
    out = (size + 1) // 2
    edges = [(0, 0, 0)] * images.ndim
    edges[axis] = (1, 2 * out - size, 0)
    padded = jax.lax.pad(images, jnp.array(-jnp.inf, images.dtype), edges)
    before, centre, after = (
        jax.lax.slice_in_dim(padded, start, start + 2 * out - 1, 2, axis)
        for start in range(3)
    )
    return jnp.maximum(jnp.maximum(before, centre), after)
