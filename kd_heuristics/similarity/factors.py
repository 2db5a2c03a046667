"""How a measure prepares a layer as a factor, and how it compares two.

Each layer is prepared once. The product F_a^H F_b of two factors is all that a
comparison needs. A factor comes from the examples or from streamed second moments; the
comparison does not distinguish the two.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact

from kd_heuristics.similarity import algebra, kernels
from kd_heuristics.similarity.algebra import adjoint, divide_where, matmul, squares
from kd_heuristics.similarity.measure import Measure, PreparedLayer


def prepare(
    measure: Measure,
    x: Inexact[Array, "n p"],
    origin: Float[Array, " p"],
    shift: Inexact[Array, " p"] | None = None,
) -> PreparedLayer:
    """A layer from its examples.

    Args:
      measure: the measure.
      x: examples, shifted so that constant units are zero up to rounding.
      origin: size of the numbers whose rounding errors each unit of x carries.
      shift: what was subtracted; only measures of n x n matrices need it.
    """
    n, units = x.shape
    mean = jnp.mean(x, axis=0, keepdims=True)
    x = x - mean
    noise = n**0.5 * jnp.finfo(x.dtype).eps * origin
    finite, x, noise, norm, inverse = _scaled(x, noise)
    if measure.by_examples:
        level = mean[0] if shift is None else mean[0] + shift
        level = jnp.where(finite, level * inverse, 0)
        return kernels.by_examples(measure, x, level)._replace(finite=finite)
    if measure.name == "google_cca":
        covariance = matmul(adjoint(x), x) / (n - 1)
        w, rank = _google_whitening(covariance, measure.epsilon)
        return PreparedLayer(finite, matmul(x, w) / (n - 1) ** 0.5, rank, rank)
    if measure.name == "cka":
        layer = kernels.debiased_layer if measure.debiased else kernels.biased_layer
        return layer(x)._replace(finite=finite)
    if measure.name == "procrustes":
        total = jnp.sum(squares(x))
        root = jnp.sqrt(jnp.where(total > 0, total, 1))
        factor = divide_where(total > 0, x, root)
        return PreparedLayer(finite, factor, jnp.zeros_like(root), jnp.zeros_like(root))
    if measure.name == "svcca":
        q, rank = algebra.basis(x, noise, measure.keep)
        return PreparedLayer(finite, q, rank, rank)
    q, rank = algebra.basis(*_unit_columns(x, noise, norm), measure.keep)
    if measure.name == "pwcca":
        return PreparedLayer(finite, q, rank, rank, loadings=matmul(adjoint(q), x))
    return PreparedLayer(finite, q, rank, jnp.full_like(rank, units))


def prepare_moments(
    measure: Measure,
    second: Inexact[Array, "p p"],
    origin: Float[Array, " p"],
    count: Float[Array, ""],
    fourth: Any = None,
) -> PreparedLayer:
    """A layer from its second moments.

    Args:
      measure: the measure.
      second: x^H x of the centred examples.
      origin: as in `prepare`.
      count: number of examples.
      fourth: debiased cka: sum of the fourth powers of the examples' norms.
    """
    finite = jnp.all(jnp.isfinite(second))
    second = jnp.where(finite, second, 0)
    norm = jnp.sqrt(jnp.maximum(jnp.real(jnp.diagonal(second)), 0))
    noise = jnp.sqrt(count) * jnp.finfo(norm.dtype).eps * origin
    varies = norm > noise
    second = jnp.where(varies[:, None] & varies[None, :], second, 0)
    if measure.name == "google_cca":
        degrees = jnp.maximum(count - 1, 1)
        w, rank = _google_whitening(second / degrees, measure.epsilon)
        return PreparedLayer(finite, w / jnp.sqrt(degrees), rank, rank)
    if measure.name == "cka":
        if measure.debiased:
            layer = kernels.debiased_moment_layer(second, count, fourth)
        else:
            layer = kernels.biased_moment_layer(second)
        return layer._replace(finite=finite)
    if measure.name == "procrustes":
        total = jnp.real(jnp.trace(second))
        root = jnp.sqrt(jnp.where(total > 0, total, 1))
        factor = divide_where(total > 0, jnp.eye(len(second), dtype=second.dtype), root)
        return PreparedLayer(finite, factor, jnp.zeros_like(root), jnp.zeros_like(root))
    if measure.name == "svcca":
        w, rank = algebra.whitening(second, noise, measure.keep)
        return PreparedLayer(finite, w, rank, rank)
    inverse = divide_where(varies, 1.0, norm)
    scaled = second * inverse[:, None] * inverse[None, :]
    w, rank = algebra.whitening(scaled, noise * inverse, measure.keep)
    w = inverse[:, None] * w
    if measure.name == "pwcca":
        return PreparedLayer(finite, w, rank, rank, loadings=matmul(adjoint(w), second))
    return PreparedLayer(finite, w, rank, jnp.full_like(rank, len(second)))


def compare(
    measure: Measure,
    cross: Inexact[Array, "p q"],
    a: PreparedLayer,
    b: PreparedLayer,
    fourth: Float[Array, ""] | None = None,
) -> Float[Array, ""]:
    """The similarity of two layers; NaN if one of them is not finite.

    Args:
      measure: the measure.
      cross: product of the two factors.
      a: first layer.
      b: second layer.
      fourth: debiased cka of streamed layers: sum over the examples of |x|^2 |y|^2;
        `None` takes it from the layers' norms.
    """
    value = _value(measure, cross, a, b, fourth)
    return jnp.where(a.finite & b.finite, value, jnp.nan)


def correlations(cross: Inexact[Array, "p q"]) -> Float[Array, " k"]:
    """Canonical correlations, largest first, from the product of two bases."""
    # Rounding may lift a perfect correlation above 1.
    return jnp.minimum(algebra.singular_values(cross), 1)


def _scaled(x, noise):
    """The layer with largest entry 1, or 0 if it is not finite; see `prepare`.

    No measure depends on a common scale. Dividing by it keeps squares from overflowing,
    and the derivative may treat it as constant. A decomposition of NaN may never
    return, so a layer that is not finite is replaced by 0. Units that are constant up
    to rounding become 0 too.

    Returns: (finite, layer, noise, norm of each column, factor applied).
    """
    # `jnp.max` of 4,096 or more entries loses NaN on CPU (jax 0.10.2).
    finite = jnp.isfinite(x).all()
    top = jax.lax.stop_gradient(jnp.max(jnp.abs(x), axis=0))
    scale = jnp.max(top)
    usable = finite & (scale > jnp.finfo(scale.dtype).tiny)
    inverse = divide_where(usable, 1.0, scale)
    # Divide by the largest entry first, lest the squares of tiny units vanish.
    relative = jax.lax.stop_gradient(x) * divide_where(top > 0, 1.0, top)[None, :]
    norm = top * inverse * jnp.sqrt(jnp.sum(squares(relative), axis=0))
    noise = noise * inverse
    varies = finite & (norm > noise)
    noise, norm = (jnp.where(varies, part, 0) for part in (noise, norm))
    return finite, jnp.where(varies[None, :], x * inverse, 0), noise, norm, inverse


def _unit_columns(
    x: Inexact[Array, "n p"], noise: Float[Array, " p"], norm: Float[Array, " p"]
) -> tuple[Inexact[Array, "n p"], Float[Array, " p"]]:
    """Columns of norm 1 (or 0), so that rank does not depend on the units' scales.

    Derivatives treat the scales as constants, since CCA does not depend on them.

    Args:
      x: centred examples.
      noise: norm of the rounding error of each column.
      norm: norm of each column.
    """
    inverse = divide_where(norm > jnp.finfo(norm.dtype).tiny, 1.0, norm)
    return x * inverse[None, :], noise * inverse


def _google_whitening(
    covariance: Inexact[Array, "p p"], epsilon: float
) -> tuple[Inexact[Array, "p p"], Float[Array, ""]]:
    """W = (C / max|C| + epsilon)^(-1/2) / sqrt(max|C|) and the number of units kept.

    This restates the steps of google/svcca from its description. Units whose scaled
    variance is below epsilon are dropped (zero rows and columns). W may differ from the
    symmetric root by a rotation, which does not affect CCA.
    """
    top = jnp.max(jnp.abs(covariance))
    scaled = divide_where(top > 0, covariance, top)
    left = (jnp.real(jnp.diagonal(scaled)) >= epsilon) & (top > 0)
    scaled = scaled * left[:, None] * left[None, :]
    w = algebra.ridge_whitening(scaled, epsilon) * left[:, None]
    root = jnp.sqrt(jnp.where(top > 0, top, 1))
    return divide_where(top > 0, w, root), left.sum().astype(top.dtype)


def _value(measure, cross, a, b, fourth):
    """The similarity of two finite layers."""
    if measure.by_examples:
        return kernels.similarity(cross[0, 0], measure)
    if measure.name == "procrustes":
        return jnp.minimum(jnp.sum(algebra.singular_values(cross)), 1)
    if measure.name == "google_cca":
        return _prefix_mean(correlations(cross), 0.98)
    if measure.name == "cka":
        if measure.debiased:
            return kernels.debiased(cross, a, b, fourth)
        return kernels.biased(cross)
    if measure.name == "pwcca":
        return _projection_weighted(cross, a, b)
    size = jnp.minimum(a.size, b.size)
    total = jnp.sum(correlations(cross))
    return divide_where(size > 0, total, size)


def _projection_weighted(
    cross: Inexact[Array, "p q"], a: PreparedLayer, b: PreparedLayer
) -> Float[Array, ""]:
    """PWCCA: sum_i alpha_i rho_i / sum_i alpha_i, alpha_i = sum_j |<h_i, x_j>|.

    h_i are the first layer's canonical variates, x_j its units.
    """
    u, s = algebra.left_vectors(cross)
    used = jnp.arange(len(s)) < jnp.minimum(a.rank, b.rank)
    weights = jnp.sum(jnp.abs(matmul(adjoint(u), a.loadings)), axis=1) * used
    total = jnp.sum(weights)
    return divide_where(total > 0, jnp.sum(weights * jnp.minimum(s, 1)), total)


def _prefix_mean(s: Float[Array, " k"], share: float) -> Float[Array, ""]:
    """Mean of the shortest prefix of s that holds `share` of its sum; 0 for zeros."""
    sums = jnp.cumsum(s)
    last = jnp.sum(sums < share * sums[-1])
    return jnp.take(sums, last, mode="clip") / (last + 1)
