"""Activation matching: permutations under which two networks' units correlate best."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kd_heuristics.alignment import assignment
from kd_heuristics.alignment.assignment import Fits
from kd_heuristics.alignment.finding import untried
from kd_heuristics.alignment.groups import Group, Spec
from kd_heuristics.alignment.layout import Permutations
from kd_heuristics.alignment.taps import tapped
from kd_heuristics.points.batches import stacked
from kd_heuristics.runtime import compiled
from kd_heuristics.runtime.errors import InputError

PyTree = Any


def match(a: PyTree, b: PyTree, spec: Spec, batches: PyTree) -> Permutations:
    """Returns permutations of b whose units correlate best with those of a.

    The activations of a group are the operands that the network's products and
    convolutions sum over its units; examples, positions and other units count as
    samples. Correlations are summed over operands (Li et al. 2015; Ainsworth et al.
    2022, section 3.1).

    Raises: ValueError if a group has no activations outside loops, or batches are of
      unequal sizes or not finite.
    """
    batches = stacked(batches)
    # Traced for batches of this size, in which flattened axes have other lengths.
    first = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), batches)
    taps = untried(spec.apply, a, first).taps
    sides = _sides(spec, taps)
    missing = [name for name in spec.groups if not sides[name]]
    if missing:
        raise InputError(
            f"there are no activations of {missing[0]} and {len(missing) - 1} more "
            'outside loops; use method="weights"'
        )
    rows = tuple((name, own) for name in sides for own in sides[name])
    tables = _moments(
        jax.tree_util.Partial(_Rows(spec.apply, taps, rows)), a, b, batches
    )
    found: dict[str, np.ndarray] = {}
    for group in spec.groups.values():
        fits = assignment.empty(group)
        for (name, (_, _, kinds)), moments in zip(rows, tables, strict=True):
            if name == group.name:
                _add(fits, group, kinds, _correlations(*map(np.asarray, moments)))
        found |= assignment.best(group, fits)[0]
    return found


class _Rows:
    """The activations of a batch as samples of units, for one program."""

    def __init__(self, apply, taps, rows):
        self.apply, self.taps, self.rows = apply, taps, rows

    def __call__(self, variables, images):
        """Returns [samples, units] of each row."""
        closed = jax.make_jaxpr(self.apply)(variables, images)
        arrays = tapped(closed, jax.tree.leaves((variables, images)), self.taps)
        return [
            _samples(arrays[tap], piece, (name, *kinds))
            for name, (tap, piece, kinds) in self.rows
        ]


def _sides(spec: Spec, taps) -> dict[str, list]:
    """The rows of each group: (index of the tap, piece, kinds of units within)."""
    found: dict[str, list] = {name: [] for name in spec.groups}
    for number, tap in enumerate(taps):
        for piece in tap.pieces:
            for name, group in spec.groups.items():
                kinds = tuple(n for n in piece.names if n in group.within)
                if piece.names.count(name) == 1 and len(kinds) <= 1:
                    found[name].append((number, piece, kinds))
    return found


def _samples(array, piece, names):
    """Returns one piece of an array as [samples, units of all names]."""
    part = array[piece.place].reshape([side.size for side in piece.sides])
    places = [piece.names.index(name) for name in names]
    part = jnp.moveaxis(part, places, range(-len(places), 0))
    units = functools.reduce(lambda x, y: x * y, part.shape[-len(places) :])
    return part.reshape(-1, units).astype(jnp.float32)


@compiled.jit
def _moments(rows, a, b, batches):
    """Means over all samples of x, y, x y^T, x^2 and y^2 for each row."""

    def step(_, images):
        found = []
        for x, y in zip(rows(a, images), rows(b, images), strict=True):
            products = jnp.matmul(x.T, y, precision="highest") / len(x)
            means = x.mean(0), y.mean(0)
            squares = jnp.square(x).mean(0), jnp.square(y).mean(0)
            found.append((*means, products, *squares))
        return None, found

    _, found = jax.lax.scan(step, None, batches)
    return jax.tree.map(lambda leaf: leaf.mean(0), found)


def _correlations(mean_x, mean_y, products, square_x, square_y) -> np.ndarray:
    """Returns Pearson's correlations; those of constant units are 0."""
    wide = (np.float64(x) for x in (mean_x, mean_y, products, square_x, square_y))
    mean_x, mean_y, products, square_x, square_y = wide
    if not np.isfinite(products).all():
        raise InputError(
            "activations are not finite; give images of a usual size, or networks that "
            "have not diverged"
        )
    covariance = products - np.outer(mean_x, mean_y)
    # float32's rounding of the mean square leaves this much of a constant.
    spread_x, spread_y = (
        np.where(square - mean**2 > 1e-6 * square, square - mean**2, np.inf)
        for mean, square in ((mean_x, square_x), (mean_y, square_y))
    )
    return covariance / np.sqrt(np.outer(spread_x, spread_y))


def _add(fits: Fits, group: Group, kinds, table) -> None:
    """Add the correlations of one row."""
    if not kinds:
        fits.units[...] += table
        return
    n, m = group.size, group.within[kinds[0]]
    table = table.reshape(n, m, n, m)
    if not group.moves:
        table = table[np.arange(n), :, np.arange(n)]
    fits.within[kinds[0]][...] += table
