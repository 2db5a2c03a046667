"""Singular values and left vectors whose derivatives stay finite.

The derivative of a singular value needs no gap to its neighbours; that of a vector
does, and is set to zero inside a group of equal ones.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact

from kd_heuristics.runtime import decompositions
from kd_heuristics.similarity.algebra import adjoint, divide_where, matmul


@jax.custom_jvp
def singular_values(m: Inexact[Array, "p q"]) -> Float[Array, " k"]:
    """Singular values of m, largest first.

    ds_i = Re(u_i^H dm v_i). Sums over a group of equal values are thereby exact; a
    single value of the group has no derivative and gets one side's.
    """
    return decompositions.svd_values(m)


@singular_values.defjvp
def _singular_values_jvp(primals, tangents):
    u, s, vh = decompositions.svd(primals[0])
    turned = matmul(matmul(adjoint(u), tangents[0]), adjoint(vh))
    return s, jnp.real(jnp.diagonal(turned))


@jax.custom_jvp
def left_vectors(
    m: Inexact[Array, "p q"],
) -> tuple[Inexact[Array, "p k"], Float[Array, " k"]]:
    """Left singular vectors and singular values of m, k = min(p, q)."""
    u, s, _ = decompositions.svd(m)
    return u, s


@left_vectors.defjvp
def _left_vectors_jvp(primals, tangents):
    u, s, vh = decompositions.svd(primals[0])
    moved = matmul(tangents[0], adjoint(vh))
    turned = matmul(adjoint(u), moved)
    eps = jnp.finfo(s.dtype).eps
    gap = s[None, :] ** 2 - s[:, None] ** 2
    apart = jnp.abs(gap) > 64 * eps * s[0] ** 2
    rotation = divide_where(
        apart, turned * s[None, :] + s[:, None] * adjoint(turned), gap
    )
    positive = (s > 64 * eps * s[0])[None, :]
    outside = divide_where(positive, moved - matmul(u, turned), s[None, :])
    change = matmul(u, rotation) + outside
    return (u, s), (change, jnp.real(jnp.diagonal(turned)))
