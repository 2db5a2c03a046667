"""Measures that compare Gram matrices: CKA, nearest neighbours and RSA.

Linear CKA is the Hilbert-Schmidt independence criterion (HSIC), normalised. For centred
x and y the biased HSIC is ||x^H y||_F^2. The debiased one (Song et al. 2012, eq. 5, for
linear kernels and times n (n - 3)) is

  ||x^H y||_F^2 - d + sum|x|^2 sum|y|^2 / ((n - 1)(n - 2)) - 2 d / (n - 2)

where d is the sum of |x_i|^2 |y_i|^2 over the examples. Both factors are scaled so that
a comparison is a plain sum of squares.

knn and rsa, and CKA for a permutation test, need an n x n matrix over the examples. It
is stored as one column [n * n, 1], scaled so that the similarity is the inner product
of two columns. Permuting the examples permutes rows and columns of the matrix, so a
permutation test prepares each layer once.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Inexact

from kd_heuristics.similarity.algebra import adjoint, divide_where, matmul, squares
from kd_heuristics.similarity.measure import Measure, PreparedLayer


def biased_layer(x: Inexact[Array, "n p"]) -> PreparedLayer:
    """The layer scaled to ||x^H x||_F = 1."""
    norm = _squared_norm(x)
    root = jnp.sqrt(jnp.sqrt(jnp.where(norm > 0, norm, 1)))
    return _layer(divide_where(norm > 0, x, root))


def debiased_layer(x: Inexact[Array, "n p"]) -> PreparedLayer:
    """The layer scaled to a sum of squares of 1, with the HSIC of the layer itself."""
    total = jax.lax.stop_gradient(jnp.sum(squares(x)))
    x = divide_where(total > 0, x, jnp.sqrt(jnp.where(total > 0, total, 1)))
    norms = jnp.sum(squares(x), axis=1)
    layer = _layer(x)._replace(norms=norms, trace=jnp.sum(norms))
    layer = layer._replace(count=jnp.full_like(layer.rank, len(x)))
    return _with_own(layer, _squared_norm(x), jnp.sum(norms**2))


def biased_moment_layer(second: Inexact[Array, "p p"]) -> PreparedLayer:
    """`biased_layer` from x^H x."""
    norm = jnp.sqrt(jnp.sum(squares(second)))
    return _layer(_scaled_identity(second, norm))


def debiased_moment_layer(
    second: Inexact[Array, "p p"], count: Float[Array, ""], fourth: Float[Array, ""]
) -> PreparedLayer:
    """`debiased_layer` from x^H x and the sum of |x_i|^4."""
    total = jnp.real(jnp.trace(second))
    unit = divide_where(total > 0, 1.0, total)
    layer = _layer(_scaled_identity(second, total))
    layer = layer._replace(trace=total * unit, count=count, unit=unit)
    return _with_own(layer, jnp.sum(squares(second * unit)), fourth * unit**2)


def biased(cross: Inexact[Array, "p q"]) -> Float[Array, ""]:
    """CKA from the product of two factors; in [0, 1], 0 for a constant layer."""
    return jnp.minimum(jnp.sum(squares(cross)), 1)


def debiased(
    cross: Inexact[Array, "p q"],
    a: PreparedLayer,
    b: PreparedLayer,
    fourth: Float[Array, ""] | None,
) -> Float[Array, ""]:
    """Debiased CKA; 0 if a layer's own HSIC is not positive."""
    # Streamed layers have no norms; their `fourth` belongs to the unscaled layers.
    fourth = jnp.sum(a.norms * b.norms) if fourth is None else fourth * a.unit * b.unit
    valid = (a.spread > 0) & (b.spread > 0)
    root = jnp.sqrt(jnp.where(valid, a.spread * b.spread, 1))
    between = _unbiased(jnp.sum(squares(cross)), a, b, fourth)
    return divide_where(valid, between, root)


def by_examples(
    measure: Measure,
    x: Inexact[Array, "n p"],
    mean: Inexact[Array, " p"],
) -> PreparedLayer:
    """A layer as an n x n matrix over its examples.

    Args:
      measure: one with `Measure.by_examples`.
      x: finite, centred examples.
      mean: the mean that was subtracted; cosines and correlations add it again.
    """
    varies = jnp.any(squares(x) > 0)
    if measure.name == "cka":
        kernel = matmul(x, adjoint(x))
        matrix = _u_centred(kernel) if measure.debiased else kernel
        return _scaled(matrix)
    if measure.name == "knn":
        # The choice of neighbours has no derivative.
        distances = _distances(*jax.lax.stop_gradient((x, mean)), measure)
        matrix = _neighbours(-distances, measure.k)
        matrix = jnp.where(varies, matrix / (len(x) * measure.k) ** 0.5, 0)
        return _layer(matrix.reshape(-1, 1))
    if measure.correlation == "spearman":
        x, mean = jax.lax.stop_gradient((x, mean))
    distances = _distances(x, mean, measure)
    distances = (distances + distances.T) / 2
    apart = ~jnp.eye(len(x), dtype=bool)
    if measure.correlation == "spearman":
        distances = _ranks(distances, apart)
    mean = jnp.sum(jnp.where(apart, distances, 0)) / (len(x) * (len(x) - 1))
    distances = jnp.where(apart & varies, distances - mean, 0)
    # Equal distances differ from their mean only by rounding.
    rounding = 64 * jnp.finfo(distances.dtype).eps * jnp.abs(mean)
    return _scaled(jnp.where(jnp.max(jnp.abs(distances)) > rounding, distances, 0))


def permuted(columns: jax.Array, order: jax.Array) -> jax.Array:
    """Columns [n * n, layers] with the examples in another order."""
    pairs = order[:, None] * len(order) + order[None, :]
    return jnp.take(columns, pairs.reshape(-1), axis=0)


def similarity(
    product: Inexact[Array, "*pairs"], measure: Measure
) -> Float[Array, "*pairs"]:
    """Similarities from the inner products of columns."""
    value = jnp.minimum(jnp.real(product), 1)
    if measure.name == "rsa":
        return jnp.maximum(value, -1)
    return value if measure.debiased else jnp.maximum(value, 0)


def _layer(factor):
    """A finite layer with this factor; its rank is unused."""
    zero = jnp.zeros((), jnp.finfo(factor.dtype).dtype)
    return PreparedLayer(jnp.array(True), factor, rank=zero, size=zero)


def _squared_norm(x):
    """||x^H x||_F^2 from the smaller Gram matrix; both give the same value."""
    tall = x.shape[0] > x.shape[1]
    gram = matmul(adjoint(x), x) if tall else matmul(x, adjoint(x))
    return jnp.sum(squares(gram))


def _scaled_identity(second, size):
    """Identity / sqrt(size), or 0: the factor that scales the size to 1."""
    root = jnp.sqrt(jnp.where(size > 0, size, 1))
    return divide_where(size > 0, jnp.eye(len(second), dtype=second.dtype), root)


def _with_own(layer, product, fourth):
    """The layer with the debiased HSIC of the layer itself."""
    return layer._replace(spread=_unbiased(product, layer, layer, fourth))


def _unbiased(product, a, b, fourth):
    """Debiased HSIC times n (n - 3); the formula of the module."""
    n = jnp.maximum(a.count, 4)
    sums = a.trace * b.trace / ((n - 1) * (n - 2))
    return product - fourth + sums - 2 * fourth / (n - 2)


def _distances(x, mean, measure) -> Float[Array, "n n"]:
    """Euclidean distances (squared for knn), or 1 minus the cosine or correlation."""
    if measure.distance == "euclidean":
        sizes = jnp.sum(squares(x), axis=1)
        products = jnp.real(matmul(x, adjoint(x)))
        squared = jnp.maximum(sizes[:, None] + sizes[None, :] - 2 * products, 0)
        if measure.name == "knn":  # squares keep the order
            return squared
        return jnp.where(squared > 0, jnp.sqrt(jnp.where(squared > 0, squared, 1)), 0)
    top = jnp.max(jnp.abs(x)) + jnp.max(jnp.abs(mean))
    raw = (x + mean[None, :]) * divide_where(top > 0, 1.0, top)
    if measure.distance == "correlation":
        raw = raw - jnp.mean(raw, axis=1, keepdims=True)
    length = jnp.sum(squares(raw), axis=1, keepdims=True)
    unit = raw * divide_where(
        length > 0, 1.0, jnp.sqrt(jnp.where(length > 0, length, 1))
    )
    return 1 - jnp.real(matmul(unit, adjoint(unit)))


def _neighbours(closeness: Float[Array, "n n"], k: int) -> Float[Array, "n n"]:
    """1 if the column is among the row's k nearest; earlier ones win ties."""
    n = len(closeness)
    others = jnp.where(jnp.eye(n, dtype=bool), -jnp.inf, closeness)
    _, nearest = jax.lax.top_k(others, k)
    return jnp.zeros_like(closeness).at[jnp.arange(n)[:, None], nearest].set(1)


def _ranks(distances: Float[Array, "n n"], apart: Bool[Array, "n n"]):
    """Ranks of the pairs' distances as fractions; equal distances get their mean."""
    flat = jnp.where(apart, distances, jnp.inf).reshape(-1)
    order = jnp.argsort(flat)
    values, places = flat[order], jnp.arange(len(flat))
    new = jnp.concatenate([jnp.ones(1, bool), values[1:] != values[:-1]])
    first = jax.lax.cummax(jnp.where(new, places, 0))
    ends = jnp.concatenate([new[1:], jnp.ones(1, bool)])
    last = jax.lax.cummin(jnp.where(ends, places, len(flat)), reverse=True)
    mean = (first + last).astype(flat.dtype) / (2 * len(flat))
    return jnp.zeros_like(flat).at[order].set(mean).reshape(distances.shape)


def _u_centred(kernel):
    """U-centred kernel; inner products are debiased HSIC times n (n - 3)."""
    n = max(len(kernel), 4)
    kernel = jnp.where(jnp.eye(len(kernel), dtype=bool), 0, kernel)
    sums = jnp.sum(kernel, axis=1)
    total = jnp.sum(sums) / ((n - 1) * (n - 2))
    kernel += total - (sums[:, None] + jnp.conj(sums)[None, :]) / (n - 2)
    return jnp.where(jnp.eye(len(kernel), dtype=bool), 0, kernel)


def _scaled(matrix):
    """The matrix as a column of norm 1, or 0; safe for huge and tiny entries."""
    top = jax.lax.stop_gradient(jnp.max(jnp.abs(matrix)))
    matrix = matrix * divide_where(top > 0, 1.0, top)
    total = jnp.sum(squares(matrix))
    root = jnp.sqrt(jnp.where(total > 0, total, 1))
    return _layer(divide_where(total > 0, matrix, root).reshape(-1, 1))
