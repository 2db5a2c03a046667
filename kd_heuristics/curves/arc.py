"""Arc length: of a curve, equal steps along it, and means over it."""

import functools
from typing import Any, SupportsIndex

import jax
import jax.numpy as jnp
import numpy as np

from kd_heuristics.curves import trees
from kd_heuristics.curves.curve import Curve, weights
from kd_heuristics.runtime.precision import common_type, widened
from kd_heuristics.runtime.values import integer


def length(curve: Curve, num: SupportsIndex = 1000) -> jax.Array:
    """Euclidean length of a curve, over its floating-point leaves.

    Exact for a chain. A Bezier curve is cut into `num` pieces, equal in t, whose chords
    are added: too short by a share of about 1 / num^2.

    Args:
      curve: any curve.
      num: pieces of a Bezier curve, at least 1.

    Returns: a scalar; NaN if a point holds NaN.

    >>> corner = [jnp.array([0.0, 0.0]), jnp.array([3.0, 0.0]), jnp.array([3.0, 4.0])]
    >>> from kd_heuristics.curves import polychain
    >>> float(length(polychain(corner)))
    7.0
    """
    return _arc(curve, num)[1][-1]


def uniform_t(
    curve: Curve, num: SupportsIndex, pieces: SupportsIndex = 1000
) -> jax.Array:
    """Values of t at equal distances along the curve, both ends included.

    Args:
      curve: any curve; of length 0, t is uniform.
      num: how many, at least 2.
      pieces: as `num` of `length`.

    Returns: float [num], ascending from 0 to 1; NaN if the length is not finite.

    >>> from kd_heuristics.curves import polychain
    >>> curve = polychain([jnp.float32(0), jnp.float32(3), jnp.float32(4)])
    >>> [round(float(t), 3) for t in uniform_t(curve, 3)]  # At 0, 2 and 4.
    [0.0, 0.333, 1.0]
    """
    num = integer("num", num, 2, remedy="both ends count")
    return _uniform_t(num, *_arc(curve, pieces))


@functools.partial(jax.jit, static_argnums=0)
def _uniform_t(num, grid, position):
    share = jnp.linspace(0, 1, num, dtype=position.dtype)
    t = jnp.interp(share * position[-1], position, grid)
    t = jnp.where(position[-1] > 0, t, share).at[-1].set(1)
    return jnp.where(jnp.isfinite(position[-1]), t, jnp.nan)


def arc_integral(
    ts: Any, values: Any, curve: Curve, pieces: SupportsIndex = 1000
) -> jax.Array:
    """Mean of a metric along the curve, weighted by arc length.

    sum over i of (values[i] + values[i + 1]) / 2 * s_i / sum over i of s_i, s_i the
    length of the curve between ts[i] and ts[i + 1].

    Args:
      ts: ascending, [num], at least 2; the mean covers ts[0] to ts[-1].
      values: the metric at each t, [num].
      curve: where the metric was taken; of length 0, the weights are differences in t.
      pieces: as `num` of `length`.

    Returns: a scalar; NaN if the length is not finite.

    Raises: ValueError for shapes that do not fit, or known ts that do not ascend.

    >>> from kd_heuristics.curves import polychain
    >>> curve = polychain([jnp.float32(0), jnp.float32(3), jnp.float32(4)])
    >>> float(arc_integral([0.0, 0.5, 1.0], [1.0, 1.0, 5.0], curve))
    1.5
    """
    _check_ts(ts, values)
    return _mean_over_arc(jnp.asarray(ts), jnp.asarray(values), *_arc(curve, pieces))


@jax.jit
def _mean_over_arc(ts, values, grid, position):
    """Returns the mean of values over arc length, by the trapezoidal rule."""
    ts = ts.astype(grid.dtype)
    steps = jnp.diff(jnp.interp(ts, grid, position))
    steps = jnp.where(steps.sum() <= 0, jnp.diff(ts), steps)  # NaN stays
    dtype = common_type(values.dtype, steps.dtype)
    values, steps = values.astype(dtype), steps.astype(dtype)
    return ((values[:-1] + values[1:]) / 2 * steps).sum() / steps.sum()


def _arc(curve: Curve, pieces: SupportsIndex) -> tuple[jax.Array, jax.Array]:
    """A grid of t from 0 to 1 and the length of the curve up to each."""
    pieces = integer("the number of pieces", pieces, 1)
    number = len(curve.points)
    if curve.kind == "polychain":
        pieces = number - 1  # Its corners: the chords are the curve itself.
    return _positions(curve.kind, number, pieces, trees.moving(curve.points))


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _positions(kind, num_points, pieces, leaves):
    """Returns a grid of t and the length of the curve up to each."""
    # In the basis of the steps from point to point the curve has n - 1 coordinates, and
    # their Gram matrix gives all distances: each leaf is read once, whatever the grid.
    gram = _step_gram(num_points - 1, leaves)
    grid = jnp.linspace(0, 1, pieces + 1, dtype=gram.dtype)
    by_t = jax.vmap(lambda t: weights(kind, t, num_points))(grid)
    # phi(t) = points[0] + sum over k of (sum over j > k of c_j(t)) * step_k.
    tails = jnp.cumsum(by_t[:, ::-1], axis=1)[:, ::-1][:, 1:]
    chords = jnp.diff(tails, axis=0)
    highest = jax.lax.Precision.HIGHEST
    squares = jnp.einsum("pi,ij,pj->p", chords, gram, chords, precision=highest)
    lengths = trees.safe_sqrt(squares)
    return grid, jnp.concatenate([jnp.zeros(1, gram.dtype), jnp.cumsum(lengths)])


def _step_gram(number, leaves):
    """Inner products of points[k + 1] - points[k], float [n - 1, n - 1]."""
    grams = []
    for leaf in leaves:
        values = jnp.stack([widened(value).ravel() for value in leaf])
        steps = jnp.diff(values, axis=0)
        highest = jax.lax.Precision.HIGHEST
        gram = jnp.einsum("ix,jx->ij", steps, steps.conj(), precision=highest)
        grams.append(gram.real)
    return trees.total(grams, (number, number))


def _check_ts(ts, values):
    shape = np.shape(ts)
    if len(shape) != 1 or shape[0] < 2 or np.shape(values) != shape:
        raise ValueError(
            "ts and values must be [num] with num at least 2, got shapes "
            f"{shape} and {np.shape(values)}"
        )
    try:
        known = np.asarray(ts)
    except jax.errors.JAXTypeError:
        return
    if not (np.diff(known) > 0).all() or known[0] < 0 or known[-1] > 1:
        raise ValueError(f"ts must ascend within [0, 1], got {known.tolist()}")
