"""Matrix operations and decompositions whose derivatives stay finite.

CCA sees only the space that a layer's units span. A basis of this space is unique up to
rotation, so its derivative is not unique; the derivative of a quantity of the space is.
The rules below take the one derivative that never divides by the gap between kept
singular values. Equal singular values and absent directions therefore give no NaN.
"""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact

from kd_heuristics.runtime import decompositions

# GPUs and TPUs round matrix products to fewer digits unless told not to.
matmul = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)


def adjoint(x: jax.Array) -> jax.Array:
    """Conjugate transpose of the last two axes."""
    return jnp.conj(jnp.swapaxes(x, -1, -2))


def divide_where(where, numerator, denominator) -> jax.Array:
    """The quotient where the condition holds and 0 elsewhere, in derivatives too.

    >>> divide_where(jnp.array([True, False]), 1.0, jnp.array([2.0, 0.0])).tolist()
    [0.5, 0.0]
    """
    return jnp.where(where, numerator / jnp.where(where, denominator, 1), 0)


def squares(x: jax.Array) -> jax.Array:
    """|x|^2 elementwise, real, with a finite derivative at 0 for complex x."""
    return jnp.real(x) ** 2 + jnp.imag(x) ** 2 if jnp.iscomplexobj(x) else x**2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Keep:
    """Which singular directions of a layer count; all within its rank by default.

    Attributes:
      variance: keep the fewest leading directions whose squared singular values hold
        this share of the total, in (0, 1].
      directions: keep this many leading directions; overrides `variance`.
    """

    variance: float | None = None
    directions: int | None = None

    @property
    def truncates(self) -> bool:
        """Whether directions within the rank may be left out."""
        return self.variance is not None or self.directions is not None


class Directions(NamedTuple):
    """The parts of `whitened = x @ vectors @ mix`, which the derivative needs."""

    vectors: jax.Array  # eigenvectors of the Gram matrix, largest first [p, k]
    values: jax.Array  # its eigenvalues [k]
    chosen: jax.Array  # true where `Keep` takes the direction [k]
    mix: jax.Array  # [k, k], zero columns where a direction is absent
    rank: jax.Array  # number of directions that are present, a float scalar


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def basis(
    x: Inexact[Array, "n p"], noise: Float[Array, " p"], keep: Keep
) -> tuple[Inexact[Array, "n k"], Float[Array, ""]]:
    """Orthonormal basis of the span of the columns of x, k = min(n, p).

    Absent directions are zero columns, so the shape is static. A direction with
    singular value s is absent if s <= rtol * (largest s), with
    rtol = max(4 eps max(p, sqrt(n)), 0.2 sqrt(eps)), or if s does not exceed the
    rounding error of the input in that direction.

    With more rows than columns, two passes of Gram matrix and eigenvectors run, the
    second on the result of the first. Like a QR or SVD of x they leave errors of eps
    times the condition number, but they consist of matrix products. Otherwise an SVD
    runs.

    Args:
      x: centred examples.
      noise: norm of the rounding error of each column.
      keep: which directions count; truncation depends on the scale of x.

    Returns: the basis, and its rank as a float.
    """
    q, found = _data_directions(x, noise, keep)
    return q, found.rank


@basis.defjvp
def _basis_jvp(keep, primals, tangents):
    x, noise = primals
    q, found = _data_directions(x, noise, keep)
    moved = matmul(tangents[0], found.vectors)
    change = matmul(moved, found.mix)
    if keep.truncates:
        rotated = matmul(x, found.vectors)
        gram_change = matmul(adjoint(moved), rotated)
        gram_change += adjoint(gram_change)
        change += matmul(rotated, _exchange(found, gram_change))
    change -= matmul(q, matmul(adjoint(q), change))
    return (q, found.rank), (change, jnp.zeros_like(found.rank))


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def whitening(
    second: Inexact[Array, "p p"], noise: Float[Array, " p"], keep: Keep
) -> tuple[Inexact[Array, "p p"], Float[Array, ""]]:
    """W with W^H C W = 1 on the present directions of C = `second`, zero elsewhere.

    The counterpart of `basis` for second moments C = x^H x: x W is a basis. Squaring
    costs half the digits. A direction is absent if its singular value is at most
    sqrt(32 eps) of the largest (0.2 % in float32). Sums over 10,000 batches were
    measured to leave eigenvalues of 6 eps where exact ones are 0.

    Returns: W and the rank as a float.
    """
    found = _moment_directions(second, noise, keep)
    return matmul(found.vectors, found.mix), found.rank


@whitening.defjvp
def _whitening_jvp(keep, primals, tangents):
    second, noise = primals
    found = _moment_directions(second, noise, keep)
    w = matmul(found.vectors, found.mix)
    change = -0.5 * matmul(w, matmul(adjoint(w), matmul(tangents[0], w)))
    if keep.truncates:
        rotated = matmul(adjoint(found.vectors), matmul(tangents[0], found.vectors))
        change += matmul(found.vectors, _exchange(found, rotated))
    return (w, found.rank), (change, jnp.zeros_like(found.rank))


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def ridge_whitening(
    second: Inexact[Array, "p p"], epsilon: float
) -> Inexact[Array, "p p"]:
    """W with W^H (C + epsilon) W = 1; at epsilon 0, on the range of C."""
    values, vectors = decompositions.eigh(second)
    eps = jnp.finfo(values.dtype).eps
    # C has no negative eigenvalues: those below 0 are rounding errors.
    shifted = jnp.maximum(values, 0) + epsilon
    floor = 0.0 if epsilon > 0 else 2 * eps * len(values) * values[0]
    return vectors * divide_where(shifted > floor, 1.0, jnp.sqrt(shifted))[None, :]


@ridge_whitening.defjvp
def _ridge_whitening_jvp(epsilon, primals, tangents):
    w = ridge_whitening(primals[0], epsilon)
    return w, -0.5 * matmul(w, matmul(adjoint(w), matmul(tangents[0], w)))


@jax.custom_jvp
def singular_values(m: Inexact[Array, "p q"]) -> Float[Array, " k"]:
    """Singular values of m, largest first.

    ds_i = Re(u_i^H dm v_i). The derivative of a sum over equal values is thereby exact.
    A single value of such a group has none and gets a one-sided one.
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
    """Left singular vectors and singular values of m, k = min(p, q).

    Vectors of equal singular values do not rotate among themselves in the derivative.
    """
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


def _data_directions(x, noise, keep):
    """The basis of x's columns, and its `Directions`."""
    n, p = x.shape
    eps = jnp.finfo(x.dtype).eps
    rtol = max(4 * eps * max(p, n**0.5), 0.2 * eps**0.5)
    if n <= p:
        u, s, vh = decompositions.svd(x)
        chosen = _choose(s, rtol, keep)
        chosen &= s > jnp.linalg.norm(noise[:, None] * jnp.abs(adjoint(vh)), axis=0)
        mix = jnp.diag(divide_where(chosen, 1.0, s)).astype(x.dtype)
        rank = chosen.sum().astype(s.dtype)
        return u * chosen[None, :], Directions(adjoint(vh), s**2, chosen, mix, rank)

    def regram(w):
        y = matmul(x, w)
        return matmul(adjoint(y), y)

    found = _two_passes(matmul(adjoint(x), x), regram, noise, rtol, keep)
    # The small product first: a tall one costs as much as the Gram matrix.
    return matmul(x, matmul(found.vectors, found.mix)), found


def _moment_directions(second, noise, keep):
    """The `Directions` that whiten data with these second moments."""
    eps = jnp.finfo(second.dtype).eps
    rtol = (32 * eps) ** 0.5

    def regram(w):
        return matmul(adjoint(w), matmul(second, w))

    return _two_passes(second, regram, noise, rtol, keep)


def _two_passes(gram, regram, noise, rtol, keep) -> Directions:
    """Directions of a Gram matrix, refined by a second pass after rescaling.

    One pass loses eigenvalues below eps times the largest. Scaling each direction to
    norm 1 (at most by 1 / clamp) raises them. The second pass then distinguishes weak
    from absent directions and corrects the rounding errors of the first.
    """
    clamp = 2 * jnp.finfo(gram.dtype).eps ** 0.5
    values, vectors = decompositions.eigh(gram)
    values = jnp.maximum(values, 0)
    s = jnp.sqrt(values)
    if keep.truncates:
        chosen = _choose(s, max(rtol, clamp), keep)
        scale = divide_where(chosen, 1.0, s)
    else:
        chosen = jnp.ones_like(s, bool)
        scale = divide_where(s[0] > 0, 1.0, jnp.maximum(s, clamp * s[0]))
    again, turn = decompositions.eigh(regram(vectors * scale[None, :]))
    again, mix = jnp.maximum(again, 0), scale[:, None] * turn
    length = jnp.linalg.norm(mix, axis=0)
    rounding = jnp.linalg.norm(noise[:, None] * jnp.abs(matmul(vectors, mix)), axis=0)
    present = jnp.sqrt(again) > jnp.maximum(rtol * s[0] * length, rounding)
    present &= length > 0
    mix = mix * divide_where(present, 1.0, jnp.sqrt(again))[None, :]
    rank = present.sum().astype(s.dtype)
    return Directions(vectors, values, chosen, mix, rank)


def _choose(s, rtol, keep):
    """Which directions `keep` selects within the rank."""
    chosen = s > rtol * s[0]
    if keep.directions is not None:
        return chosen & (jnp.arange(len(s)) < keep.directions)
    if keep.variance is not None and keep.variance < 1:
        share = s**2 / jnp.where(s[0] > 0, jnp.sum(s**2), 1.0)
        before = jnp.cumsum(share) - share
        return chosen & (before < keep.variance)
    return chosen


def _exchange(found: Directions, gram_change):
    """How omitted directions rotate into the kept ones, in whitened coordinates.

    This is the first-order perturbation of eigenvectors between the two sets; the gap
    is that at the cut. If it closes, the kept space has no derivative; zero is used.
    """
    gap = found.values[None, :] - found.values[:, None]
    across = found.chosen[None, :] & ~found.chosen[:, None]
    wide = gap > 8 * jnp.finfo(gap.dtype).eps * found.values[0]
    weight = divide_where(across & wide, 1.0, gap)
    return matmul(weight * gram_change, found.mix)
