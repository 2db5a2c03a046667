"""Linear CKA: the Hilbert-Schmidt independence criterion (HSIC), normalised.

With centred x and y, biased: HSIC = ||x^H y||_F^2. Debiased (Song et al. 2012, eq. 5,
here for linear kernels and times n (n - 3)):

  ||x^H y||_F^2 - d + sum|x|^2 sum|y|^2 / ((n - 1)(n - 2)) - 2 d / (n - 2)

with d the sum over the examples of |x_i|^2 |y_i|^2. The factors of both are scaled so
that a comparison is a plain sum of squares.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact

from kd_heuristics.similarity.algebra import adjoint, divide_where, matmul, squares
from kd_heuristics.similarity.measure import Layer


def biased_layer(x: Inexact[Array, "n p"]) -> Layer:
    """The layer scaled to ||x^H x||_F = 1."""
    norm = _squared_norm(x)
    root = jnp.sqrt(jnp.sqrt(jnp.where(norm > 0, norm, 1)))
    return _layer(divide_where(norm > 0, x, root))


def debiased_layer(x: Inexact[Array, "n p"]) -> Layer:
    """The layer scaled to a sum of squares of 1, with its own HSIC."""
    total = jax.lax.stop_gradient(jnp.sum(squares(x)))
    x = divide_where(total > 0, x, jnp.sqrt(jnp.where(total > 0, total, 1)))
    norms = jnp.sum(squares(x), axis=1)
    layer = _layer(x)._replace(norms=norms, trace=jnp.sum(norms))
    layer = layer._replace(count=jnp.full_like(layer.rank, len(x)))
    return _with_own(layer, _squared_norm(x), jnp.sum(norms**2))


def biased_moment_layer(second: Inexact[Array, "p p"]) -> Layer:
    """As `biased_layer`, from x^H x."""
    norm = jnp.sqrt(jnp.sum(squares(second)))
    return _layer(_scaled_identity(second, norm))


def debiased_moment_layer(
    second: Inexact[Array, "p p"], count: Float[Array, ""], fourth: Float[Array, ""]
) -> Layer:
    """As `debiased_layer`, from x^H x and the sum of |x_i|^4."""
    total = jnp.real(jnp.trace(second))
    unit = divide_where(total > 0, 1.0, total)
    layer = _layer(_scaled_identity(second, total))
    layer = layer._replace(trace=total * unit, count=count, unit=unit)
    return _with_own(layer, jnp.sum(squares(second * unit)), fourth * unit**2)


def biased(cross: Inexact[Array, "p q"]) -> Float[Array, ""]:
    """CKA from the product of two factors; in [0, 1], 0 for a constant layer."""
    return jnp.minimum(jnp.sum(squares(cross)), 1)


def debiased(
    cross: Inexact[Array, "p q"], a: Layer, b: Layer, fourth: Float[Array, ""] | None
) -> Float[Array, ""]:
    """Debiased CKA; 0 where a layer's own HSIC is not positive."""
    # Streamed layers have no norms; their `fourth` is of the unscaled layers.
    fourth = jnp.sum(a.norms * b.norms) if fourth is None else fourth * a.unit * b.unit
    valid = (a.spread > 0) & (b.spread > 0)
    root = jnp.sqrt(jnp.where(valid, a.spread * b.spread, 1))
    between = _unbiased(jnp.sum(squares(cross)), a, b, fourth)
    return divide_where(valid, between, root)


def _layer(factor):
    zero = jnp.zeros((), jnp.finfo(factor.dtype).dtype)
    return Layer(jnp.array(True), factor, rank=zero, size=zero)


def _squared_norm(x):
    """||x^H x||_F^2 by the smaller of the two Gram matrices, which agree."""
    tall = x.shape[0] > x.shape[1]
    gram = matmul(adjoint(x), x) if tall else matmul(x, adjoint(x))
    return jnp.sum(squares(gram))


def _scaled_identity(second, size):
    root = jnp.sqrt(jnp.where(size > 0, size, 1))
    return divide_where(size > 0, jnp.eye(len(second), dtype=second.dtype), root)


def _with_own(layer, product, fourth):
    return layer._replace(spread=_unbiased(product, layer, layer, fourth))


def _unbiased(product, a, b, fourth):
    n = jnp.maximum(a.count, 4)
    sums = a.trace * b.trace / ((n - 1) * (n - 2))
    return product - fourth + sums - 2 * fourth / (n - 2)
