"""Centred moments of a batch, and how to move them to another centre.

All functions treat one slot (see `slots`). Let u and v be the centred examples of two
layers. A pair of layers keeps sum u* v^T. For debiased CKA it also keeps sum |v|^2 u,
sum |u|^2 v and sum |u|^2 |v|^2. Complex layers then need sum u v^T to move the others
to another centre. Each layer keeps the same moments with itself.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact

from kd_heuristics.similarity.algebra import adjoint, matmul, squares


class Moments(NamedTuple):
    """Moments of two layers, or of one with itself; debiased CKA needs all."""

    cross: jax.Array  # [p, q]
    third_a: Any = None  # [p]
    third_b: Any = None  # [q]
    fourth: Any = None  # real scalar
    plain: Any = None  # [p, q], not conjugated, of complex layers


def centred(
    x: Inexact[Array, "m c"], weight: Float[Array, " m"]
) -> tuple[Inexact[Array, " c"], Inexact[Array, "m c"]]:
    """Mean of the examples of weight 1 (not 0), and these examples minus the mean."""
    total = jnp.maximum(jnp.sum(weight), 1)
    mean = jnp.sum(x * weight[:, None], axis=0) / total
    return mean, (x - mean[None, :]) * weight[:, None]


def of_batch(
    u: Inexact[Array, "m p"], v: Inexact[Array, "m q"], higher: bool
) -> Moments:
    """Moments of centred examples; `higher` computes all of them."""
    cross = matmul(adjoint(u), v)
    if not higher:
        return Moments(cross)
    norm_u, norm_v = jnp.sum(squares(u), axis=1), jnp.sum(squares(v), axis=1)
    third_a = matmul(norm_v, u).astype(cross.dtype)
    third_b = matmul(norm_u, v).astype(cross.dtype)
    plain = matmul(u.T, v) if jnp.iscomplexobj(cross) else None
    return Moments(cross, third_a, third_b, jnp.sum(norm_u * norm_v), plain)


def moved(
    moments: Moments,
    count: Float[Array, ""],
    trace_a: Float[Array, ""],
    trace_b: Float[Array, ""],
    a: Inexact[Array, " p"],
    b: Inexact[Array, " q"],
) -> Moments:
    """Moments of u + a and v + b for u and v that sum to zero.

    Args:
      moments: moments of u and v.
      count: number of examples.
      trace_a: sum of |u|^2.
      trace_b: sum of |v|^2.
      a: old mean minus new mean of the first layer.
      b: the same for the second layer.
    """
    cross = moments.cross + count * jnp.conj(a)[:, None] * b[None, :]
    if moments.fourth is None:
        return Moments(cross)
    size_a, size_b = jnp.sum(squares(a)), jnp.sum(squares(b))
    along_a, along_b = _along(moments, a, b)
    third_a = moments.third_a + (trace_b + count * size_b) * a + along_b
    third_b = moments.third_b + (trace_a + count * size_a) * b + along_a
    fourth = moments.fourth + 2 * _inner(b, moments.third_b)
    fourth += 2 * _inner(a, moments.third_a) + 2 * _inner(b, along_a)
    fourth += size_b * trace_a + size_a * trace_b + count * size_a * size_b
    plain = moments.plain
    if plain is not None:
        plain = plain + count * a[:, None] * b[None, :]
    return Moments(cross, third_a, third_b, fourth, plain)


def _along(moments, a, b):
    """Both sum 2 Re<a, u> v and sum 2 Re<b, v> u."""
    cross, plain = moments.cross, moments.plain
    if plain is None:
        return 2 * matmul(a, cross), 2 * matmul(cross, b)
    along_a = matmul(a, cross) + matmul(jnp.conj(a), plain)
    return along_a, matmul(jnp.conj(cross), b) + matmul(plain, jnp.conj(b))


def _inner(x, y):
    return jnp.real(jnp.sum(jnp.conj(x) * y))
