"""Axes as units: which entries of which axes must be permuted together.

An axis is a concatenation of segments, a segment a product of dimensions from major to
minor: after the flattening of [h, w, c] the axis is one segment (h, w, c), after the
concatenation of two layers' channels it has two segments. Unknown dimensions are
replaced as constraints come in, as type variables are.
"""

import math
from collections.abc import Iterable

NATURAL = ""  # reason of what no permutation may touch: inputs, outputs, positions


class Dim:
    """Units that an axis runs over, two at least.

    Attributes:
      size: number of units.
      frozen: why no permutation may move the units; `None` if they are free.
      into: the axis that replaces the dimension; `None` if it stands for itself.
    """

    __slots__ = ("frozen", "into", "size")

    def __init__(self, size: int, frozen: str | None = None):
        self.size = size
        self.frozen = frozen
        self.into: Axis | None = None


Segment = tuple[Dim, ...]
Axis = tuple[Segment, ...]


def fresh(size: int, frozen: str | None = None) -> Axis:
    """Returns an axis of units that nothing is known of."""
    return ((),) if size == 1 else ((Dim(size, frozen),),)


def product(*dims: Dim) -> Axis:
    """Returns an axis that runs over all combinations; dimensions of size 1 drop."""
    return (tuple(dim for dim in dims if dim.size > 1),)


def size(axis: Axis) -> int:
    """Returns the length of an axis."""
    return sum(map(_length, axis))


def resolved(axis: Axis) -> Axis:
    """Returns an axis in terms of the dimensions that stand for themselves."""
    return tuple(part for segment in axis for part in _resolved(segment))


def dims_of(axes: Iterable[Axis]) -> set[Dim]:
    """Returns all dimensions that stand for themselves in some axes."""
    return {dim for axis in axes for segment in resolved(axis) for dim in segment}


def freeze(axes: Iterable[Axis], reason: str = NATURAL) -> None:
    """Forbid permutations of all units of some axes."""
    for dim in dims_of(axes):
        if dim.frozen is None or reason == NATURAL:
            dim.frozen = reason


def unify(a: Axis, b: Axis) -> None:
    """Make two axes of one length the same: every permutation moves both alike."""
    left, right = [*resolved(a)], [*resolved(b)]
    while left:
        x, y = _pop(left), _pop(right)
        short = min(_length(x), _length(y))
        parts_x, parts_y = (_both(*_cut(part, short)) for part in (x, y))
        if len(parts_x) == len(parts_y) == 1:
            _unify_segments(x, y)
        else:  # the cut may have replaced dimensions of both: look again
            left[:0], right[:0] = parts_x, parts_y


def cut(axis: Axis, lengths: Iterable[int]) -> list[Axis]:
    """Returns the consecutive parts of an axis that have these lengths."""
    rest, parts = [*resolved(axis)], []
    for length in lengths:
        part: list[Segment] = []
        while length:
            segment = _pop(rest)
            taken, after = _cut(segment, min(length, _length(segment)))
            rest[:0] = after
            part += taken
            length -= sum(map(_length, taken))
        parts.append(tuple(part))
    return parts


def merge(axes: list[Axis]) -> Axis:
    """Returns the axis that several become when they are flattened."""
    whole: Axis = ((),)
    for axis in axes:
        whole = _times(whole, resolved(axis))
    return whole


def split(axis: Axis, lengths: list[int]) -> list[Axis]:
    """Returns the axes that one becomes when it gets this shape, major to minor."""
    parts, rest = [], axis
    for number, length in enumerate(lengths[:-1]):
        outer, rest = _split(rest, length, math.prod(lengths[number + 1 :]))
        parts.append(outer)
    return [*parts, rest]


def _split(axis, outer, inner):
    """Returns the two axes of a reshape to [outer, inner]."""
    segments = resolved(axis)
    if outer == 1 or inner == 1:
        return (((),), segments) if outer == 1 else (segments, ((),))
    if len(segments) == 1:
        return _split_segment(segments[0], outer, inner)
    rows = cut(segments, [inner] * outer)
    for row in rows[1:]:
        unify(rows[0], row)
    return fresh(outer, NATURAL), resolved(rows[0])


def _split_segment(segment, outer, inner):
    first, *rest = segment
    if first.size == outer:
        return ((first,),), (tuple(rest),)
    if outer % first.size == 0:
        more, last = _split_segment(tuple(rest), outer // first.size, inner)
        return _times(((first,),), resolved(more)), last
    if first.size % outer == 0:
        _divide(first, outer)
        return _split(((first, *rest),), outer, inner)
    reason = f"a reshape to {outer} by {inner} cuts across units"
    freeze([(segment,)], reason)
    return fresh(outer, reason), fresh(inner, reason)


def _divide(dim, outer):
    """Replace a dimension by blocks of units."""
    dim.into = product(Dim(outer, dim.frozen), Dim(dim.size // outer, dim.frozen))


def _unify_segments(x, y):
    """Make two products of equal length the same."""
    if x == y:
        return
    a, b = x[0], y[0]
    if len(x) == len(y) == 1 or len(x) == 1:
        _replace(a, y)
    elif len(y) == 1:
        _replace(b, x)
    elif a.size == b.size:
        _unify_segments((a,), (b,))
        unify((x[1:],), (y[1:],))
    elif a.size % b.size == 0 or b.size % a.size == 0:
        _divide(*((a, b.size) if a.size > b.size else (b, a.size)))
        unify((x,), (y,))
    else:
        sizes = [[dim.size for dim in segment] for segment in (x, y)]
        freeze([(x,), (y,)], f"units in blocks of {sizes[0]} meet blocks of {sizes[1]}")


def _replace(dim, segment):
    """Let a dimension stand for a segment of its length."""
    if dim in segment:
        freeze([(segment,)], "units are blocks of themselves")
        return
    if dim.frozen is not None:
        freeze([(segment,)], dim.frozen)
    dim.into = (segment,)


def _cut(segment, length):
    """Returns the segments before and after a place inside a segment."""
    whole = _length(segment)
    if length == whole:
        return [segment], []
    first, *rest = segment
    row = whole // first.size
    if length % row == 0:
        start = length // row
        parts = [fresh(n, first.frozen) for n in (start, first.size - start)]
        first.into = tuple(part[0] for part in parts)
        before, after = ([(*part[0], *rest)] for part in parts)
        return before, after
    freeze([((first,),)], "a part of a block of units is cut off")
    rows = [tuple(rest)] * first.size
    number = length // row
    before, after = _cut(rows[number], length - number * row)
    return [*rows[:number], *before], [*after, *rows[number + 1 :]]


def _both(before, after):
    return [*before, *after]


def _pop(segments):
    """Removes and returns the first segment, resolved."""
    segments[:1] = _resolved(segments[0])
    return segments.pop(0)


def _length(segment):
    return math.prod(dim.size for dim in segment)


def _resolved(segment) -> Axis:
    whole: Axis = ((),)
    for dim in segment:
        whole = _times(whole, _parts(dim))
    return whole


def _parts(dim) -> Axis:
    while dim.into is not None:
        if len(dim.into) > 1 or len(dim.into[0]) != 1:
            return resolved(dim.into)
        dim = dim.into[0][0]
    return ((dim,),)


def _times(major: Axis, minor: Axis) -> Axis:
    """Returns the product of two resolved axes."""
    if len(minor) == 1:
        return tuple(segment + minor[0] for segment in major)
    if major != ((),):  # each major unit has its own copy of the minor segments
        freeze([major], "a product with a concatenation")
    return tuple(
        part for segment in major for _ in range(_length(segment)) for part in minor
    )
