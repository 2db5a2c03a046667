"""How the leaves of a network lie over units, and their permutation.

A piece is the part of a leaf that is one product of dimensions: all of a dense kernel,
or the rows of one of the layers that a concatenation joins.
"""

import itertools
import math
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import numpy as np

Permutations = Mapping[str, np.ndarray]


class Side(NamedTuple):
    """A dimension of a piece: its name, `None` if nothing permutes it, and size."""

    name: str | None
    size: int


Segments = tuple[tuple[Side, ...], ...]


class Piece(NamedTuple):
    """A part of a leaf.

    Attributes:
      leaf: name of the leaf.
      place: slice of each axis of the leaf.
      sides: dimensions of the part, in its order.
    """

    leaf: str
    place: tuple[slice, ...]
    sides: tuple[Side, ...]

    @property
    def names(self) -> tuple[str | None, ...]:
        """Names of the sides."""
        return tuple(side.name for side in self.sides)

    def of(self, leaf: np.ndarray) -> np.ndarray:
        """Returns the part of a leaf, with an axis for each side."""
        return leaf[self.place].reshape([side.size for side in self.sides])


def pieces(leaf: str, axes: tuple[Segments, ...]) -> list[Piece]:
    """Returns the pieces of a leaf that a permutation may move."""
    by_axis = []
    for segments in axes:
        start, rows = 0, []
        for sides in segments:
            stop = start + math.prod(side.size for side in sides)
            rows.append((slice(start, stop), sides))
            start = stop
        by_axis.append(rows)
    found = []
    for rows in itertools.product(*by_axis):
        sides = tuple(side for _, own in rows for side in own)
        if any(side.name for side in sides):
            found.append(Piece(leaf, tuple(place for place, _ in rows), sides))
    return found


def permuted(
    array: np.ndarray,
    names: tuple[str | None, ...],
    permutations: Permutations,
    parents: Mapping[str, str],
    skip: Collection[str] = (),
) -> np.ndarray:
    """Returns a piece with its units in another order.

    Unit i of the result is unit permutations[name][i] of the array; of a dimension that
    depends on another, its parent, unit (p, i) is unit permutations[name][p, i] of the
    parent's unit that comes to p.

    Args:
      array: the piece, with an axis for each side.
      names: names of its sides.
      permutations: [units] or, of a dimension with a parent, [parent's units, units].
      parents: parent of each dimension that has one.
      skip: names of dimensions to leave as they are.
    """
    for axis, name in enumerate(names):
        if name in permutations and name not in skip and name not in parents:
            array = np.take(array, permutations[name], axis)
    for axis, name in enumerate(names):
        if name in permutations and name not in skip and name in parents:
            array = _permuted_within(array, names, axis, permutations[name], parents)
    return array


def _permuted_within(array, names, axis, permutation, parents):
    """Permute one dimension for each unit of its parent."""
    places = [n for n, name in enumerate(names) if name == parents[names[axis]]]
    place = max((n for n in places if n < axis), default=places[0])
    shape = [1] * array.ndim
    shape[place], shape[axis] = permutation.shape
    index = permutation if place < axis else permutation.T
    return np.take_along_axis(array, index.reshape(shape), axis)


def apply(
    leaves: Mapping[str, Any],
    found: Mapping[str, list[Piece]],
    permutations: Permutations,
    parents: Mapping[str, str],
) -> dict[str, np.ndarray]:
    """Returns the leaves, by name, with their units in another order."""
    changed = {}
    for leaf, own in found.items():
        old = np.asarray(leaves[leaf])
        new = old.copy()
        for piece in own:
            part = permuted(piece.of(old), piece.names, permutations, parents)
            new[piece.place] = part.reshape(new[piece.place].shape)
        changed[leaf] = new
    return changed
