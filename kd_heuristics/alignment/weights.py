"""Weight matching: permutations under which two networks' weights agree best."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from kd_heuristics.alignment import assignment
from kd_heuristics.alignment.assignment import Coupled, Fits
from kd_heuristics.alignment.groups import Group, Spec
from kd_heuristics.alignment.layout import Permutations, Piece, permuted

_SWEEPS = 100


class Weights:
    """The pieces of two networks whose permutations are sought."""

    def __init__(self, a: Mapping[str, Any], b: Mapping[str, Any], spec: Spec):
        self.spec = spec
        self.parents = spec.parents
        self.known = {*spec.groups, *self.parents}
        self.rows: list[tuple[Piece, np.ndarray, np.ndarray]] = []
        for leaf, pieces in spec.pieces.items():
            # Statistics follow their units; their size says nothing of weights.
            if leaf.startswith("batch_stats/"):
                continue
            x, y = (_wide(np.asarray(leaves[leaf])) for leaves in (a, b))
            self.rows += [(piece, piece.of(x), piece.of(y)) for piece in pieces]

    def agreement(self, permutations: Permutations) -> float:
        """Returns the inner product of a's weights with b's permuted ones."""
        total = 0.0
        for piece, a, b in self.rows:
            moved = permuted(b, piece.names, permutations, self.parents)
            total += float(np.vdot(a, moved))
        return total

    def fits(
        self, group: Group, permutations: Permutations, among: Collection[str]
    ) -> Fits:
        """Returns how well the units of a group fit, with all others permuted.

        Args:
          group: the group.
          permutations: of all groups.
          among: names of groups; pieces over units of others are left out, and, if the
            group is not among them, pieces with the group on two axes.
        """
        fits = assignment.empty(group)
        own = {group.name, *group.within}
        for piece, a, b in self.rows:
            names = piece.names
            others = {n for n in names if n in self.known} - own
            if group.name not in names or not others <= {*among}:
                continue
            if names.count(group.name) > 1:
                if group.name in among:
                    self._twice(fits, group, piece, a, b, permutations)
                continue
            moved = permuted(b, names, permutations, self.parents, skip=own)
            _add(fits, group, names, a, moved)
        return fits

    def _twice(self, fits, group, piece, a, b, permutations):
        """A piece with a group on two axes: each, with the other permuted."""
        if group.within or not group.moves:
            return
        names = piece.names
        fits.twice.append(piece.leaf)
        places = [n for n, name in enumerate(names) if name == group.name]
        for place in places:
            one = tuple(None if n == place else name for n, name in enumerate(names))
            moved = permuted(b, one, permutations, self.parents)
            rows = [
                np.moveaxis(x, place, 0).reshape(group.size, -1) for x in (a, moved)
            ]
            fits.units[...] += rows[0] @ rows[1].T


def _wide(array):
    """Returns an array in float32 or wider."""
    return array.astype(np.result_type(array, np.float32))


def _add(fits, group, names, a, b):
    """Add the fits of one piece."""
    kinds = tuple(name for name in names if name in group.within)
    places = [names.index(name) for name in (group.name, *kinds)]
    first = range(len(places))
    a, b = (np.moveaxis(x, places, first) for x in (a, b))
    sizes = a.shape[: len(places)]
    if len(kinds) > 1:
        fits.coupled.append(Coupled(kinds, *(x.reshape(*sizes, -1) for x in (a, b))))
    elif kinds and not group.moves:
        a, b = (x.reshape(*sizes, -1) for x in (a, b))
        fits.within[kinds[0]][...] += a @ b.swapaxes(1, 2)
    elif kinds:
        a, b = (x.reshape(sizes[0] * sizes[1], -1) for x in (a, b))
        fits.within[kinds[0]][...] += (a @ b.T).reshape(sizes * 2)
    elif group.moves:
        a, b = (x.reshape(sizes[0], -1) for x in (a, b))
        fits.units[...] += a @ b.T


def match(
    a: Mapping[str, Any],
    b: Mapping[str, Any],
    spec: Spec,
    random: np.random.Generator,
) -> Permutations:
    """Returns permutations of b that agree with a in weights.

    Coordinate ascent over groups (Ainsworth et al. 2022, algorithm 1), from two starts:
    the order of b, and groups one after another from the inputs on, each by the leaves
    whose other units are already known. The better end counts.
    """
    weights = Weights(a, b, spec)
    starts = spec.identity(), _forward(weights)
    ends = [_ascend(weights, start, random) for start in starts]
    return max(ends, key=weights.agreement)


def _forward(weights):
    found: dict[str, np.ndarray] = dict(weights.spec.identity())
    among: set[str] = set()
    for group in weights.spec.groups.values():
        fits = weights.fits(group, found, among)
        if not _any(fits):
            fits = weights.fits(group, found, weights.known)
        found |= assignment.best(group, fits)[0]
        among |= {group.name, *group.within}
    return found


def _any(fits):
    tables = (fits.units, *fits.within.values())
    return bool(fits.coupled) or any(table.any() for table in tables)


def _ascend(weights, found, random):
    """Improve one group after another, in random order, until none gets better."""
    groups = [*weights.spec.groups.values()]
    found = dict(found)
    for _ in range(_SWEEPS):
        better = False
        for place in random.permutation(len(groups)):
            other = _improved(weights, groups[place], found)
            better |= other is not None
            found = other or found
        if not better:
            break
    return found


def _improved(weights, group, found):
    """Returns better permutations of one group; None if there are none."""
    fits = weights.fits(group, found, weights.known)
    other = found | assignment.best(group, fits)[0]
    if all((found[name] == other[name]).all() for name in found):
        return None
    if fits.twice:
        before, after = weights.agreement(found), weights.agreement(other)
    else:
        before, after = (assignment.value(group, fits, x) for x in (found, other))
    # Below rounding errors of float32, two orders are as good.
    return other if after - before > 1e-6 * abs(before) else None
