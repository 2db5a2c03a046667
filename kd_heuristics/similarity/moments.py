"""Centred moments of a batch, and how they move to another centre.

All functions are of one slot (see `plan`). With u and v the centred examples of two
layers, a pair of layers keeps sum u* v^T, and for debiased CKA also sum |v|^2 u,
sum |u|^2 v and sum |u|^2 |v|^2 (real data only). A layer keeps its own.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact

from kd_heuristics.similarity.algebra import adjoint, matmul, squares


class Moments(NamedTuple):
    """Of two layers, or of one with itself; the last three for debiased CKA."""

    cross: jax.Array  # [p, q]
    third_a: Any = None  # [p]
    third_b: Any = None  # [q]
    fourth: Any = None  # scalar


def centred(
    x: Inexact[Array, "m c"], weight: Float[Array, " m"]
) -> tuple[Inexact[Array, " c"], Inexact[Array, "m c"]]:
    """Mean of the examples that count (weight 1, not 0), and these less the mean."""
    total = jnp.maximum(jnp.sum(weight), 1)
    mean = jnp.sum(x * weight[:, None], axis=0) / total
    return mean, (x - mean[None, :]) * weight[:, None]


def of_batch(
    u: Inexact[Array, "m p"], v: Inexact[Array, "m q"], higher: bool
) -> Moments:
    """Moments of centred examples; `higher`: all of them."""
    cross = matmul(adjoint(u), v)
    if not higher:
        return Moments(cross)
    norm_u, norm_v = jnp.sum(squares(u), axis=1), jnp.sum(squares(v), axis=1)
    return Moments(
        cross, matmul(norm_v, u), matmul(norm_u, v), jnp.sum(norm_u * norm_v)
    )


def moved(
    moments: Moments,
    count: Float[Array, ""],
    trace_a: Float[Array, ""],
    trace_b: Float[Array, ""],
    a: Inexact[Array, " p"],
    b: Inexact[Array, " q"],
) -> Moments:
    """Moments of u + a and v + b, where u and v sum to zero.

    Args:
      moments: those of u and v.
      count: number of examples.
      trace_a: sum of |u|^2.
      trace_b: sum of |v|^2.
      a: old mean less new mean of the first layer.
      b: of the second.
    """
    cross = moments.cross + count * jnp.conj(a)[:, None] * b[None, :]
    if moments.fourth is None:
        return Moments(cross)
    size_a, size_b = jnp.sum(a * a), jnp.sum(b * b)
    along_a, along_b = matmul(a, moments.cross), matmul(moments.cross, b)
    third_a = moments.third_a + (trace_b + count * size_b) * a + 2 * along_b
    third_b = moments.third_b + (trace_a + count * size_a) * b + 2 * along_a
    fourth = moments.fourth + 2 * jnp.sum(b * moments.third_b)
    fourth += 2 * jnp.sum(a * moments.third_a) + 4 * jnp.sum(along_a * b)
    fourth += size_b * trace_a + size_a * trace_b + count * size_a * size_b
    return Moments(cross, third_a, third_b, fourth)
