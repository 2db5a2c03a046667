"""Unit vectors and norms with finite gradients, even for zero vectors.

In float32, entries below 1e-31 count as 0.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from kd_heuristics.curves.trees import safe_sqrt

Axes = int | Sequence[int]


def scaled(x: jax.Array, axes: Axes) -> jax.Array:
    """Divides x by its largest absolute value, so that no square overflows or vanishes.

    The divisor has no gradient, so use it in functions invariant to scaling. NaN stays
    NaN.
    """
    axes = (axes,) if isinstance(axes, int) else tuple(axes)
    largest = jax.lax.stop_gradient(jnp.abs(x).max(axes, keepdims=True))
    limits = jnp.finfo(x.dtype)
    nothing = largest <= limits.tiny / limits.eps
    return jnp.where(nothing, 0, x / jnp.where(nothing, 1, largest))


def unit(x: jax.Array, axis: int = -1) -> jax.Array:
    """Divides x by its norm; 0, with gradient 0, if the norm is 0."""
    x = scaled(x, axis)
    norm = safe_sqrt(jnp.square(x).sum(axis, keepdims=True))
    return x / jnp.where(norm == 0, 1, norm)


def centred(x: jax.Array, axis: int, where: jax.Array) -> jax.Array:
    """Returns x minus its mean, as a unit vector; excluded entries are 0.

    Args:
      x: any array; an excluded entry is at most the largest included one.
      axis: axis of the mean and the norm.
      where: bool, in the shape of x: entries to include.

    Returns: the shape of x; 0 if all entries are equal.
    """
    # Equal entries become exactly 0, and so does their mean.
    x = jnp.where(where, x - jax.lax.stop_gradient(x.max(axis, keepdims=True)), 0)
    count = jnp.maximum(where.sum(axis, keepdims=True), 1).astype(x.dtype)
    mean = x.sum(axis, keepdims=True) / count
    return unit(jnp.where(where, x - mean, 0), axis)
