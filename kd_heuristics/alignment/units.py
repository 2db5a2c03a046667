"""Names of the dimensions that a walk has found, and which depend on others."""

from collections.abc import Mapping, Sequence

from kd_heuristics.alignment import dims
from kd_heuristics.alignment.dims import Axis, Dim
from kd_heuristics.alignment.layout import Segments, Side

Leaves = Mapping[str, tuple[Axis, ...]]


def named(leaves: Leaves) -> dict[Dim, str]:
    """Returns names of the dimensions: the first place where leaves hold them.

    "params/conv/kernel:3" is axis 3 of a leaf, "...:0[16:32]" a part of one, and
    "...:1.0" and "...:1.1" are blocks of an axis and units within a block.
    """
    found: dict[Dim, str] = {}
    for leaf, axes in leaves.items():
        for number, axis in enumerate(axes):
            start = 0
            segments = dims.resolved(axis)
            for segment in segments:
                stop = start + dims.size((segment,))
                part = f"[{start}:{stop}]" if len(segments) > 1 else ""
                for place, dim in enumerate(segment):
                    level = f".{place}" if len(segment) > 1 else ""
                    found.setdefault(dim, f"{leaf}:{number}{part}{level}")
                start = stop
    return found


def parents(names: Mapping[Dim, str], arrays: Sequence[tuple[Axis, ...]]):
    """Returns the dimension that each dimension's permutation may depend on, if any.

    Units within blocks may have an order of their own in each block if no array holds
    the former without the latter.
    """
    around: dict[Dim, set[Dim]] = {}
    for axes in arrays:
        for dim, here in _beside(axes):
            around[dim] = around.get(dim, here) & here
    found: dict[Dim, Dim] = {}
    for dim in names:
        if dim.frozen is not None or dim in found.values():
            continue
        others = [
            other
            for other in names
            if other in around[dim] and other is not dim and other not in found
        ]
        # Of blocks that are free themselves, before layers of a loop.
        others.sort(key=lambda other: other.frozen is not None)
        if others:
            found[dim] = others[0]
    return found


def _beside(axes):
    """Yield each dimension of an array with those that it is always combined with."""
    by_axis = [[set(segment) for segment in dims.resolved(axis)] for axis in axes]
    common = [set.intersection(*segments) for segments in by_axis]
    for number, segments in enumerate(by_axis):
        others = set().union(*common[:number], *common[number + 1 :])
        for segment in segments:
            for dim in segment:
                yield dim, others | segment


def segments_of(
    axes: tuple[Axis, ...], names: Mapping[Dim, str], kept: set[Dim]
) -> tuple[Segments, ...]:
    """Returns a leaf's axes with names in place of the dimensions that are kept."""

    def side(dim):
        return Side(names[dim] if dim in kept else None, dim.size)

    return tuple(
        tuple(tuple(map(side, segment)) for segment in dims.resolved(axis))
        for axis in axes
    )


def in_order(names: Mapping[Dim, str], arrays: Sequence[tuple[Axis, ...]]) -> list[Dim]:
    """Returns the named dimensions in the order in which the program meets them."""
    met = dict.fromkeys(
        dim
        for axes in arrays
        for axis in axes
        for s in dims.resolved(axis)
        for dim in s
    )
    return [dim for dim in met if dim in names]
