"""Which parts of which layers are compared: everything that shapes alone decide.

A slot is one thing that is prepared once: a layer, or one frequency of it. Slots of
equal shape are stacked, so that they run in one batched operation however many layers
there are; so are the pairs of slots.
"""

import dataclasses
import functools
from collections.abc import Iterable

import numpy as np

from kd_heuristics.similarity import views
from kd_heuristics.similarity.views import View

Shapes = tuple[tuple[int, ...], ...]
Pairs = tuple[tuple[int, int], ...]

_SPECTRAL = ("auto", "dft")  # a mean is the frequency 0 of one position


@dataclasses.dataclass(frozen=True)
class Side:
    """The slots of one network.

    Attributes:
      views: what is extracted.
      groups: indices of the views whose slots are stacked, in this order.
      multiplicity: examples that one example gives, a number a group.
    """

    views: tuple[View, ...]
    groups: tuple[tuple[int, ...], ...]
    multiplicity: tuple[int, ...]

    def layers(self, group: int) -> np.ndarray:
        """The layer of each slot of a group."""
        members = [self.views[index] for index in self.groups[group]]
        of = np.repeat([v.layer for v in members], [v.slots for v in members])
        return of.astype(np.int32)


@dataclasses.dataclass(frozen=True, eq=False)
class PairGroup:
    """Pairs of slots of one shape.

    Attributes:
      group_a, group_b: the group of the first and second slots.
      slot_a, slot_b: their positions in the group [pairs].
      weight: share of each pair in the mean of its two layers [pairs].
      layer_a, layer_b: the layers compared [pairs].
    """

    group_a: int
    group_b: int
    slot_a: np.ndarray
    slot_b: np.ndarray
    weight: np.ndarray
    layer_a: np.ndarray
    layer_b: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """Two sides (the same one for a network against itself) and what to compare."""

    side_a: Side
    side_b: Side
    pair_groups: tuple[PairGroup, ...]


@functools.lru_cache(maxsize=64)
def make(
    shapes_a: Shapes, shapes_b: Shapes | None, conv: str, pairs: Pairs | None = None
) -> Plan:
    """The plan for layers of these shapes.

    Args:
      shapes_a: of each layer, with or without a leading number of examples that all
        share: [examples, ..., channels].
      shapes_b: those of the other network; None: the first against itself.
      conv: "auto", "dft", "positions" or "mean".
      pairs: layers to compare, as (a, b); None: all.
    """
    other = shapes_a if shapes_b is None else shapes_b
    if pairs is None:
        pairs = tuple((i, j) for i in range(len(shapes_a)) for j in range(len(other)))
    wanted = [(i, j, _common_size(shapes_a[i], other[j], conv)) for i, j in pairs]
    needs_a = [(i, size) for i, _, size in wanted]
    needs_b = [(j, size) for _, j, size in wanted]
    if shapes_b is None:
        needs_a = needs_b = needs_a + needs_b
    side_a = _side(shapes_a, needs_a, conv)
    side_b = side_a if shapes_b is None else _side(other, needs_b, conv)
    return Plan(side_a, side_b, _pair_groups(side_a, side_b, wanted, conv))


def fewest_positions(shapes: Iterable[tuple[int, ...]]) -> int:
    """Examples that one example gives at least, with positions as examples.

    >>> fewest_positions([(5, 4, 4, 3), (5, 2, 8, 3)]), fewest_positions([(5, 3)])
    (8, 1)
    """
    h, w = (min(axis) for axis in zip(*map(views.map_size, shapes), strict=True))
    return h * w


def _common_size(shape_a, shape_b, conv):
    a, b = (views.compared_size(shape, conv) for shape in (shape_a, shape_b))
    return min(a[0], b[0]), min(a[1], b[1])


def _side(shapes, needs, conv):
    found = _spectra(needs) if conv in _SPECTRAL else _sizes(needs)
    groups: dict[tuple, list[int]] = {}
    for index, view in enumerate(found):
        h, w = view.size
        multiplicity = 1 if view.frequencies else h * w
        shape = shapes[view.layer]
        # A spectrum is complex unless the map is a single position.
        spectral = bool(view.frequencies) and views.compared_size(shape, conv) != (1, 1)
        groups.setdefault((multiplicity, shape[-1], spectral), []).append(index)
    multiplicities = tuple(key[0] for key in groups)
    return Side(tuple(found), tuple(map(tuple, groups.values())), multiplicities)


def _sizes(needs):
    return [View(layer, size) for layer, size in sorted(set(needs))]


def _spectra(needs):
    """One view a layer, with the frequencies of all sizes it is compared at."""
    by_layer: dict[int, dict[views.Frequency, None]] = {}
    sizes: dict[int, views.Size] = {}
    for layer, size in sorted(set(needs)):
        half = dict.fromkeys(views.half_spectrum(size))
        by_layer.setdefault(layer, {}).update(half)
        sizes[layer] = size
    return [View(i, sizes[i], tuple(fs)) for i, fs in by_layer.items()]


def _pair_groups(side_a, side_b, wanted, conv):
    where_a, where_b = _slot_index(side_a), _slot_index(side_b)
    rows: dict[tuple[int, int], list[tuple]] = {}
    for i, j, size in wanted:
        parts = views.half_spectrum(size) if conv in _SPECTRAL else {size: 1}
        for part, weight in parts.items():
            (ga, sa), (gb, sb) = where_a[i, part], where_b[j, part]
            share = weight / sum(parts.values())
            rows.setdefault((ga, gb), []).append((sa, sb, share, i, j))
    return tuple(_pair_group(key, items) for key, items in rows.items())


def _pair_group(key, items):
    slot_a, slot_b, weight, layer_a, layer_b = (
        np.array(column) for column in zip(*items, strict=True)
    )
    # int32 in x64 mode too: plans are shared between modes.
    return PairGroup(
        group_a=key[0],
        group_b=key[1],
        slot_a=slot_a.astype(np.int32),
        slot_b=slot_b.astype(np.int32),
        weight=weight,
        layer_a=layer_a.astype(np.int32),
        layer_b=layer_b.astype(np.int32),
    )


def _slot_index(side):
    """(layer, frequency or size) -> (group, slot)."""
    out = {}
    for group, members in enumerate(side.groups):
        slot = 0
        for view in (side.views[index] for index in members):
            for part in view.frequencies or (view.size,):
                out[view.layer, part] = (group, slot)
                slot += 1
    return out
