"""Which parts of which layers are compared, decided from shapes alone.

A slot is what is prepared once: a layer, or one frequency of it. Slots of equal shape
are stacked and run as one batched operation, however many layers there are. Pairs of
slots are stacked in the same way.
"""

import dataclasses
import functools
from collections.abc import Iterable

import numpy as np

from kd_heuristics.similarity import positions
from kd_heuristics.similarity.positions import LayerView

Shapes = tuple[tuple[int, ...], ...]
Pairs = tuple[tuple[int, int], ...]

_SPECTRAL = ("auto", "dft")  # a mean is frequency 0 of a single position


@dataclasses.dataclass(frozen=True)
class SlotGroup:
    """Slots of one shape, stacked in the order of their views.

    Attributes:
      views: what is extracted from the layers; each view yields one or more slots.
      multiplicity: rows that one example yields in each slot.
    """

    views: tuple[LayerView, ...]
    multiplicity: int

    @property
    def layers(self) -> np.ndarray:
        """Layer of each slot."""
        of = np.repeat([v.layer for v in self.views], [v.slots for v in self.views])
        return of.astype(np.int32)


@dataclasses.dataclass(frozen=True, eq=False)
class PairGroup:
    """Pairs of slots of one shape.

    Attributes:
      group_a, group_b: index of the groups that hold the first and second slots.
      slot_a, slot_b: positions of the slots in their groups [pairs].
      weight: weight of each pair in the mean over its two layers [pairs].
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
class Layout:
    """Slots of both networks (equal if a network meets itself) and their pairs."""

    groups_a: tuple[SlotGroup, ...]
    groups_b: tuple[SlotGroup, ...]
    pair_groups: tuple[PairGroup, ...]


@functools.lru_cache(maxsize=64)
def make(
    shapes_a: Shapes, shapes_b: Shapes | None, conv: str, pairs: Pairs | None = None
) -> Layout:
    """The layout for layers of these shapes.

    Args:
      shapes_a: shape of each layer, [examples, ..., channels]; the number of examples
        is ignored.
      shapes_b: shapes of the other network; `None` compares the first with itself.
      conv: "auto", "dft", "positions" or "mean".
      pairs: layers to compare, as (a, b); `None` compares all.
    """
    other = shapes_a if shapes_b is None else shapes_b
    if pairs is None:
        pairs = tuple((i, j) for i in range(len(shapes_a)) for j in range(len(other)))
    wanted = [(i, j, _common_size(shapes_a[i], other[j], conv)) for i, j in pairs]
    needs_a = [(i, size) for i, _, size in wanted]
    needs_b = [(j, size) for _, j, size in wanted]
    if shapes_b is None:
        needs_a = needs_b = needs_a + needs_b
    groups_a = _groups(shapes_a, needs_a, conv)
    groups_b = groups_a if shapes_b is None else _groups(other, needs_b, conv)
    return Layout(groups_a, groups_b, _pair_groups(groups_a, groups_b, wanted, conv))


def fewest_positions(shapes: Iterable[tuple[int, ...]]) -> int:
    """Fewest rows that one example yields if every position is an example.

    >>> fewest_positions([(5, 4, 4, 3), (5, 2, 8, 3)]), fewest_positions([(5, 3)])
    (8, 1)
    """
    h, w = (min(axis) for axis in zip(*map(positions.map_size, shapes), strict=True))
    return h * w


def _common_size(shape_a, shape_b, conv):
    """The (h, w) at which two layers are compared: the smaller along each axis."""
    a, b = (positions.compared_size(shape, conv) for shape in (shape_a, shape_b))
    return min(a[0], b[0]), min(a[1], b[1])


def _groups(shapes, needs, conv):
    """One network's slots, grouped by the shape of what is extracted."""
    views = _spectra(needs) if conv in _SPECTRAL else _sizes(needs)
    groups: dict[tuple, list[LayerView]] = {}
    for view in views:
        h, w = view.size
        multiplicity = 1 if view.frequencies else h * w
        shape = shapes[view.layer]
        # A spectrum is complex unless the map has a single position.
        size = positions.compared_size(shape, conv)
        spectral = bool(view.frequencies) and size != (1, 1)
        groups.setdefault((multiplicity, shape[-1], spectral), []).append(view)
    return tuple(SlotGroup(tuple(found), key[0]) for key, found in groups.items())


def _sizes(needs):
    """One view for each layer and size that it is compared at."""
    return [LayerView(layer, size) for layer, size in sorted(set(needs))]


def _spectra(needs):
    """One view for each layer, with the frequencies of all sizes it is compared at."""
    by_layer: dict[int, dict[positions.Frequency, None]] = {}
    sizes: dict[int, positions.Size] = {}
    for layer, size in sorted(set(needs)):
        half = dict.fromkeys(positions.half_spectrum(size))
        by_layer.setdefault(layer, {}).update(half)
        sizes[layer] = size
    return [LayerView(i, sizes[i], tuple(fs)) for i, fs in by_layer.items()]


def _pair_groups(groups_a, groups_b, wanted, conv):
    """The pairs of slots, grouped by the groups that hold the two slots."""
    where_a, where_b = _slot_index(groups_a), _slot_index(groups_b)
    rows: dict[tuple[int, int], list[tuple]] = {}
    for i, j, size in wanted:
        parts = positions.half_spectrum(size) if conv in _SPECTRAL else {size: 1}
        for part, weight in parts.items():
            (ga, sa), (gb, sb) = where_a[i, part], where_b[j, part]
            share = weight / sum(parts.values())
            rows.setdefault((ga, gb), []).append((sa, sb, share, i, j))
    return tuple(_pair_group(*key, items) for key, items in rows.items())


def _pair_group(group_a, group_b, items):
    """Rows (slot_a, slot_b, weight, layer_a, layer_b) as columns."""
    # int32 in x64 mode too: layouts are shared between modes.
    types = np.int32, np.int32, np.float64, np.int32, np.int32
    columns = zip(zip(*items, strict=True), types, strict=True)
    return PairGroup(group_a, group_b, *(np.array(c, dtype) for c, dtype in columns))


def _slot_index(groups):
    """(layer, frequency or size) -> (group, slot)."""
    out = {}
    for index, group in enumerate(groups):
        parts = [(v.layer, p) for v in group.views for p in v.frequencies or (v.size,)]
        out |= {part: (index, slot) for slot, part in enumerate(parts)}
    return out
