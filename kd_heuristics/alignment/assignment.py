"""The best permutation of a group's units, given how well each pair fits."""

from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from kd_heuristics.alignment.groups import Group
from kd_heuristics.alignment.layout import Permutations


class Coupled(NamedTuple):
    """Parts of two networks over several kinds of units within a group's units.

    Attributes:
      names: the kinds of units within.
      a: [group's units, units of each kind ..., entries].
      b: the same of the other network.
    """

    names: tuple[str, ...]
    a: np.ndarray
    b: np.ndarray


class Fits(NamedTuple):
    """How well units fit, larger for better.

    Attributes:
      units: [units of a, units of b].
      within: [units of a, units within, units of b, units within] by kind; if the
        group does not move, [units, units within, units within].
      coupled: parts over several kinds.
      twice: names of leaves that hold the group on two axes, whose fit is linear only
        as long as one of them stays.
    """

    units: np.ndarray
    within: dict[str, np.ndarray]
    coupled: list[Coupled]
    twice: list[str]


def empty(group: Group) -> Fits:
    """Returns fits of 0."""
    n = group.size

    def shape(m):
        return (n, m, n, m) if group.moves else (n, m, m)

    within = {name: np.zeros(shape(m)) for name, m in group.within.items()}
    return Fits(np.zeros((n, n)), within, [], [])


def best(group: Group, fits: Fits) -> tuple[Permutations, float]:
    """Returns the group's best permutations, and the sum of their fits.

    Each pair of units is first fitted within, then pairs are chosen: both by linear
    assignment, exact unless several kinds of units within are coupled by one leaf.
    """
    if not group.within:
        columns, total = _assign(fits.units)
        return {group.name: columns}, total
    pairs = [(i, j) for i in range(group.size) for j in range(group.size)]
    if not group.moves:
        pairs = [(i, i) for i in range(group.size)]
    inner: dict[tuple[int, int], dict[str, np.ndarray]] = {}
    values = np.where(np.eye(group.size), 0, -np.inf) if not group.moves else fits.units
    values = values.copy()
    for i, j in pairs:
        inner[i, j], total = _within(group, fits, i, j)
        values[i, j] += total
    if group.moves:
        columns, total = _assign(values)
        found = {group.name: columns}
    else:
        columns, total, found = np.arange(group.size), float(np.trace(values)), {}
    for name in group.within:
        rows = [inner[i, int(j)][name] for i, j in enumerate(columns)]
        found[name] = np.stack(rows)
    return found, total


def value(group: Group, fits: Fits, permutations: Permutations) -> float:
    """Returns the sum of the fits under some permutations."""
    columns = permutations.get(group.name, np.arange(group.size))
    total = float(fits.units[np.arange(group.size), columns].sum())
    if group.within:
        for i, j in enumerate(columns):
            own = {name: permutations[name][i] for name in group.within}
            total += _inner_value(group, fits, i, int(j), own)
    return total


def _within(group, fits, i, j):
    """Returns the best permutations within one pair of units, and their fit."""
    found = {name: np.arange(size) for name, size in group.within.items()}
    for _ in range(3 if fits.coupled else 1):
        for name in found:
            table = _table(group, fits, name, i, j)
            for part in fits.coupled:
                if name in part.names:
                    table = table + _given_others(part, name, i, j, found)
            found[name], _ = _assign(table)
    return found, _inner_value(group, fits, i, j, found)


def _inner_value(group, fits, i, j, found) -> float:
    """Returns the fit of one pair of units under permutations within."""
    total = 0.0
    for name, columns in found.items():
        table = _table(group, fits, name, i, j)
        total += float(table[np.arange(len(columns)), columns].sum())
    for part in fits.coupled:
        name = part.names[0]
        table = _given_others(part, name, i, j, found)
        total += float(table[np.arange(len(table)), found[name]].sum())
    return total


def _table(group, fits, name, i, j):
    table = fits.within[name]
    return table[i, :, j] if group.moves else table[i]


def _given_others(part, name, i, j, found):
    """Fits of one kind of units, with the others of a coupled part permuted."""
    a, b = part.a[i], part.b[j]
    for axis, other in enumerate(part.names):
        if other != name:
            b = np.take(b, found[other], axis)
    axis = part.names.index(name)
    rows = [np.moveaxis(x, axis, 0).reshape(x.shape[axis], -1) for x in (a, b)]
    return rows[0] @ rows[1].T


def _assign(table):
    rows, columns = linear_sum_assignment(table, maximize=True)
    return columns, float(table[rows, columns].sum())
