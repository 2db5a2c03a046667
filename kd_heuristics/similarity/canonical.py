"""Canonical correlations of two bases, and their projection-weighted mean."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact

from kd_heuristics.similarity import singular
from kd_heuristics.similarity.algebra import adjoint, divide_where, matmul
from kd_heuristics.similarity.measure import Layer


def unit_columns(
    x: Inexact[Array, "n p"], noise: Float[Array, " p"], norm: Float[Array, " p"]
) -> tuple[Inexact[Array, "n p"], Float[Array, " p"]]:
    """Columns of norm 1, or 0: rank is then judged apart from the units' scales.

    The scales count as constants in derivatives: CCA does not depend on them.

    Args:
      x: centred examples.
      noise: norm of the rounding error of each column.
      norm: of each column.
    """
    inverse = divide_where(norm > jnp.finfo(norm.dtype).tiny, 1.0, norm)
    return x * inverse[None, :], noise * inverse


def correlations(cross: Inexact[Array, "p q"]) -> Float[Array, " k"]:
    """Canonical correlations, largest first, from the product of two bases."""
    # Rounding may lift a perfect correlation above 1.
    return jnp.minimum(singular.singular_values(cross), 1)


def projection_weighted(
    cross: Inexact[Array, "p q"], a: Layer, b: Layer
) -> Float[Array, ""]:
    """sum_i alpha_i rho_i / sum_i alpha_i, alpha_i = sum_j |<h_i, x_j>|.

    h_i are the first layer's canonical variates, x_j its units.
    """
    u, s = singular.left_vectors(cross)
    used = jnp.arange(len(s)) < jnp.minimum(a.rank, b.rank)
    weights = jnp.sum(jnp.abs(matmul(adjoint(u), a.loadings)), axis=1) * used
    total = jnp.sum(weights)
    return divide_where(total > 0, jnp.sum(weights * jnp.minimum(s, 1)), total)
