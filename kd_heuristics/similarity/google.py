"""The steps of google/svcca, restated from what the package is described to compute."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact

from kd_heuristics.similarity import bases
from kd_heuristics.similarity.algebra import divide_where


def whitening(
    covariance: Inexact[Array, "p p"], epsilon: float
) -> tuple[Inexact[Array, "p p"], Float[Array, ""]]:
    """W = (C / max|C| + epsilon)^(-1/2) / sqrt(max|C|) and the number of units left.

    Units whose scaled variance is under epsilon are left out (zero rows and columns).
    W may differ from the symmetric root by a rotation, which CCA does not see.
    """
    top = jnp.max(jnp.abs(covariance))
    scaled = divide_where(top > 0, covariance, top)
    left = (jnp.real(jnp.diagonal(scaled)) >= epsilon) & (top > 0)
    scaled = scaled * left[:, None] * left[None, :]
    w = bases.ridge_whitening(scaled, epsilon) * left[:, None]
    root = jnp.sqrt(jnp.where(top > 0, top, 1))
    return divide_where(top > 0, w, root), left.sum().astype(top.dtype)


def prefix_mean(s: Float[Array, " k"], share: float) -> Float[Array, ""]:
    """Mean of the shortest prefix of s that holds `share` of its sum; 0 for zeros."""
    sums = jnp.cumsum(s)
    last = jnp.sum(sums < share * sums[-1])
    return jnp.take(sums, last, mode="clip") / (last + 1)
