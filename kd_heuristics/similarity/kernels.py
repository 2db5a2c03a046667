"""Measures of how the examples lie to each other: an n x n matrix a layer.

Each matrix is scaled so that the sum of the products of two of them is the similarity,
and kept as one column [n * n, 1]. What permutes the examples permutes its rows and
columns, so that a permutation test prepares each layer once.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Inexact

from kd_heuristics.similarity.algebra import adjoint, divide_where, matmul, squares
from kd_heuristics.similarity.measure import Layer, Measure


def prepare(
    measure: Measure,
    x: Inexact[Array, "n p"],
    mean: Inexact[Array, " p"],
) -> Layer:
    """The layer of its examples.

    Args:
      measure: by matrices of the examples: see `Measure.by_examples`.
      x: finite, centred examples.
      mean: what they are centred by; cosines and correlations are without it.
    """
    varies = jnp.any(squares(x) > 0)
    if measure.name == "cka":
        kernel = matmul(x, adjoint(x))
        matrix = _u_centred(kernel) if measure.debiased else kernel
        return _scaled(matrix)
    if measure.name == "knn":
        # Which neighbours there are has no derivative.
        distances = _distances(*jax.lax.stop_gradient((x, mean)), measure)
        k = int(measure.k)
        matrix = _neighbours(-distances, k)
        return _layer(jnp.where(varies, matrix / (len(x) * k) ** 0.5, 0))
    if measure.correlation == "spearman":
        x, mean = jax.lax.stop_gradient((x, mean))
    distances = _distances(x, mean, measure)
    distances = (distances + distances.T) / 2
    apart = ~jnp.eye(len(x), dtype=bool)
    if measure.correlation == "spearman":
        distances = _ranks(distances, apart)
    mean = jnp.sum(jnp.where(apart, distances, 0)) / (len(x) * (len(x) - 1))
    distances = jnp.where(apart & varies, distances - mean, 0)
    # Equal distances differ from their mean by rounding alone.
    rounding = 64 * jnp.finfo(distances.dtype).eps * jnp.abs(mean)
    return _scaled(jnp.where(jnp.max(jnp.abs(distances)) > rounding, distances, 0))


def permuted(columns: jax.Array, order: jax.Array) -> jax.Array:
    """Columns [n * n, layers], of the examples in another order."""
    pairs = order[:, None] * len(order) + order[None, :]
    return jnp.take(columns, pairs.reshape(-1), axis=0)


def similarity(
    product: Inexact[Array, "*pairs"], measure: Measure
) -> Float[Array, "*pairs"]:
    """The values, from the products of columns."""
    value = jnp.minimum(jnp.real(product), 1)
    if measure.name == "rsa":
        return jnp.maximum(value, -1)
    return value if measure.debiased else jnp.maximum(value, 0)


def _distances(x, mean, measure) -> Float[Array, "n n"]:
    """Squared Euclidean distances, or 1 less the cosine or correlation."""
    if measure.distance == "euclidean":
        sizes = jnp.sum(squares(x), axis=1)
        products = jnp.real(matmul(x, adjoint(x)))
        squared = jnp.maximum(sizes[:, None] + sizes[None, :] - 2 * products, 0)
        if measure.name == "knn":  # the order is that of the squares
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
    """1 where the column is among the k nearest of the row; the earlier of equals."""
    n = len(closeness)
    others = jnp.where(jnp.eye(n, dtype=bool), -jnp.inf, closeness)
    _, nearest = jax.lax.top_k(others, k)
    return jnp.zeros_like(closeness).at[jnp.arange(n)[:, None], nearest].set(1)


def _ranks(distances: Float[Array, "n n"], apart: Bool[Array, "n n"]):
    """Ranks of the distances of pairs, of equal ones their mean, as a share."""
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
    """Song et al. 2012: products of two such are n (n - 3) times unbiased HSIC."""
    n = max(len(kernel), 4)
    kernel = jnp.where(jnp.eye(len(kernel), dtype=bool), 0, kernel)
    sums = jnp.sum(kernel, axis=1)
    total = jnp.sum(sums) / ((n - 1) * (n - 2))
    kernel += total - (sums[:, None] + jnp.conj(sums)[None, :]) / (n - 2)
    return jnp.where(jnp.eye(len(kernel), dtype=bool), 0, kernel)


def _scaled(matrix):
    """The matrix of norm 1, or 0; huge and tiny entries are no matter."""
    top = jax.lax.stop_gradient(jnp.max(jnp.abs(matrix)))
    matrix = matrix * divide_where(top > 0, 1.0, top)
    total = jnp.sum(squares(matrix))
    root = jnp.sqrt(jnp.where(total > 0, total, 1))
    return _layer(divide_where(total > 0, matrix, root))


def _layer(matrix):
    zero = jnp.zeros((), jnp.finfo(matrix.dtype).dtype)
    return Layer(jnp.array(True), matrix.reshape(-1, 1), rank=zero, size=zero)
