"""When a permutation of units passes through primitives that move entries."""

import math

from kd_heuristics.alignment import dims
from kd_heuristics.alignment.program import Rule, frozen, stop


def _broadcast(walk, equation, operands):
    shape, places = equation.params["shape"], equation.params["broadcast_dimensions"]
    found = [dims.fresh(length) for length in shape]
    for axis, place in zip(operands[0], places, strict=True):
        if dims.size(axis) == shape[place]:
            found[place] = axis
    return [tuple(found)]


def _transpose(walk, equation, operands):
    return [tuple(operands[0][n] for n in equation.params["permutation"])]


def _squeeze(walk, equation, operands):
    removed = equation.params["dimensions"]
    return [tuple(a for n, a in enumerate(operands[0]) if n not in removed)]


def _reverse(walk, equation, operands):
    dims.freeze([operands[0][n] for n in equation.params["dimensions"]])
    return [operands[0]]


def _reshape(walk, equation, operands):
    """Groups of axes with as many entries before as after are merged and split."""
    before, shape = [*operands[0]], [*equation.params["new_sizes"]]
    if math.prod(shape) == 0:
        return stop(equation, operands, dims.NATURAL)
    found: list = []
    while before or shape:
        taken, lengths = before[:1], shape[:1]
        del before[:1], shape[:1]
        entries = math.prod(map(dims.size, taken)), math.prod(lengths)
        while entries[0] != entries[1]:
            if entries[0] < entries[1]:
                taken.append(before.pop(0))
            else:
                lengths.append(shape.pop(0))
            entries = math.prod(map(dims.size, taken)), math.prod(lengths)
        found += dims.split(dims.merge(taken), lengths) if lengths else []
    return [tuple(found)]


def _slice(walk, equation, operands):
    params = equation.params
    strides = params["strides"] or (1,) * len(operands[0])
    rows = zip(
        operands[0],
        params["start_indices"],
        params["limit_indices"],
        strides,
        strict=True,
    )
    return [tuple(_part(*row) for row in rows)]


def _part(axis, start, stop, stride=1):
    """The entries of an axis from start to stop."""
    length = dims.size(axis)
    if stride == 1:
        return dims.cut(axis, [start, stop - start, length - stop])[1] or ((),)
    dims.freeze([axis])
    return dims.fresh(-(-(stop - start) // stride), dims.NATURAL)


def _pad(walk, equation, operands):
    """Equal entries around an axis may be permuted among themselves."""
    found = []
    rows = zip(operands[0], equation.params["padding_config"], strict=True)
    for axis, edges in rows:
        low, high, between = map(int, edges)
        if between or min(low, high) < 0:
            dims.freeze([axis])
            length = dims.size(axis)
            total = low + high + length + between * (length - 1)
            found.append(dims.fresh(total, dims.NATURAL))
        else:
            ends = [dims.fresh(n) if n else () for n in (low, high)]
            found.append((*ends[0], *axis, *ends[1]))
    return [tuple(found)]


def _concatenate(walk, equation, operands):
    along = equation.params["dimension"]
    for axes in operands[1:]:
        for n, axis in enumerate(axes):
            if n != along:
                dims.unify(operands[0][n], axis)
    found = [*operands[0]]
    found[along] = tuple(part for axes in operands for part in axes[along])
    return [tuple(found)]


def _split(walk, equation, operands):
    along = equation.params["axis"]
    parts = dims.cut(operands[0][along], equation.params["sizes"])
    axes = operands[0]
    return [(*axes[:along], part, *axes[along + 1 :]) for part in parts]


def _dynamic_slice(walk, equation, operands):
    sizes = equation.params["slice_sizes"]
    found = []
    for axis, length in zip(operands[0], sizes, strict=True):
        if dims.size(axis) != length:
            dims.freeze([axis])
            axis = dims.fresh(length, dims.NATURAL)
        found.append(axis)
    return [tuple(found)]


def _dynamic_update_slice(walk, equation, operands):
    for axis, part in zip(operands[0], operands[1], strict=True):
        if dims.size(axis) == dims.size(part):
            dims.unify(axis, part)
        else:
            dims.freeze([axis, part])
    return [operands[0]]


def _gather(walk, equation, operands):
    """Rows by index, as of an embedding: axes that are taken whole stay."""
    numbers, sizes = (
        equation.params["dimension_numbers"],
        equation.params["slice_sizes"],
    )
    dims.freeze(operands[1])
    gone = (*numbers.collapsed_slice_dims, *numbers.operand_batching_dims)
    kept = []
    for n, axis in enumerate(operands[0]):
        whole = sizes[n] == dims.size(axis) and n not in numbers.start_index_map
        if not whole or n in gone:
            dims.freeze([axis])
        if n not in gone:
            kept.append(axis if whole else dims.fresh(sizes[n], dims.NATURAL))
    found = [*frozen(equation.outvars[0].aval.shape)]
    for place, axis in zip(numbers.offset_dims, kept, strict=True):
        found[place] = axis
    return [tuple(found)]


SHAPES: dict[str, Rule] = {
    "broadcast_in_dim": _broadcast,
    "concatenate": _concatenate,
    "dynamic_slice": _dynamic_slice,
    "dynamic_update_slice": _dynamic_update_slice,
    "gather": _gather,
    "pad": _pad,
    "reshape": _reshape,
    "rev": _reverse,
    "slice": _slice,
    "split": _split,
    "squeeze": _squeeze,
    "transpose": _transpose,
}
