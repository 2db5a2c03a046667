"""Principal directions of a training run."""

from collections.abc import Sequence
from typing import Any, NamedTuple, SupportsIndex

import jax
import jax.numpy as jnp
import numpy as np

from kd_heuristics.curves import trees
from kd_heuristics.landscape.gram import gram, rounding
from kd_heuristics.landscape.span import Span, span
from kd_heuristics.runtime.precision import common_type
from kd_heuristics.runtime.values import integer

PyTree = Any


class Trajectory(NamedTuple):
    """Main axes of a trajectory.

    Attributes:
      span: span of the last network and the axes, each of length 1.
      coordinates: coordinates of each network along the axes, relative to the last
        network, float64 [points, axes].
      shares: share of the trajectory's variance along each axis, float64 [axes]; of its
        squared distance from the last network if it is not centred.
    """

    span: Span
    coordinates: np.ndarray
    shares: np.ndarray


def trajectory(
    points: Sequence[PyTree], num_axes: SupportsIndex = 2, *, centred: bool = True
) -> Trajectory:
    """PCA of the differences w_i - w_n of a run's networks (Li et al. 2018, section 7).

    The axes are the leading right singular vectors of the matrix with rows w_i - w_n,
    i = 0 .. n, minus their mean if `centred`. They are computed from the inner products
    of the rows in float64, with only one leaf widened at a time. Signs are chosen so
    that the first network has no negative coordinate.

    Args:
      points: the networks in order, at least `num_axes + 1`. Trees with equal
        structure, shapes, types and leaves that are not floating-point; not traced.
      num_axes: at least 1.
      centred: whether to centre at the mean, as in PCA; `False` centres at the last
        network.

    Raises: ValueError if there are too few networks, they span fewer axes, or they
      differ (the message names the first such leaf).

    >>> run = [{"w": jnp.array(w)} for w in ([3.0, 4.0], [1.5, 2.0], [0.0, 0.0])]
    >>> found = trajectory(run, num_axes=1)
    >>> found.coordinates[:, 0].round(4).tolist(), float(found.shares[0].round(4))
    ([5.0, 2.5, 0.0], 1.0)
    """
    points = list(points)
    num_axes = integer("num_axes", num_axes, 1)
    if len(points) <= num_axes:
        raise ValueError(
            f"{num_axes} axes need at least {num_axes + 1} networks, got {len(points)}"
        )
    trees.check_alike(points)
    inner = gram(points, origin=points[-1])
    count = len(points)
    centre = np.eye(count) - (1 / count if centred else 0)
    squares, vectors = np.linalg.eigh(centre @ inner @ centre)
    squares, vectors = squares[::-1][:num_axes], vectors[:, ::-1][:, :num_axes]
    _check_rank(squares, rounding(points) * np.sqrt(count))
    # An axis is the sum of shares[i, k] * (w_i - w_n) over the networks.
    shares = centre @ vectors / np.sqrt(squares)
    coordinates = inner @ shares
    signs = np.where(coordinates[0] < 0, -1, 1)
    axes = [_axis(points, column) for column in (shares * signs).T]
    total = np.trace(centre @ inner @ centre)
    return Trajectory(span(points[-1], *axes), coordinates * signs, squares / total)


def _axis(points, shares) -> PyTree:
    """Returns the sum of shares[i] * (points[i] - points[-1])."""
    leaves, structure = jax.tree.flatten(points[-1])
    moved = iter(_sums(jnp.asarray(shares), trees.moving(points)))
    return structure.unflatten(
        next(moved) if trees.is_inexact(leaf) else leaf for leaf in leaves
    )


@jax.jit
def _sums(shares, values):
    """Returns the sum of shares[i] * (leaf[i] - leaf[-1]) for each leaf."""
    sums = []
    for leaf in values:
        dtype = common_type(jnp.float32, shares.dtype, jnp.result_type(leaf[-1]))
        *_, last = wide = [x.astype(dtype) for x in leaf]
        moves = [x - last for x in wide]
        steps = [s.astype(dtype) * move for s, move in zip(shares, moves, strict=True)]
        sums.append(sum(steps[1:], steps[0]).astype(jnp.result_type(leaf[-1])))
    return sums


def _check_rank(squares, noise) -> None:
    """Raise ValueError if an axis is no longer than rounding noise."""
    lengths = np.sqrt(np.maximum(squares, 0))
    found = int((lengths > max(4 * noise, 1e-7 * lengths[0])).sum())
    if found < len(squares):
        raise ValueError(
            f"the networks' differences have rank {found}, up to rounding; lower "
            "num_axes to that number"
        )
