"""When a permutation of units passes through a primitive, beside contractions."""

import math

from kd_heuristics.alignment import dims
from kd_heuristics.alignment.program import Rule, frozen, stop

_ELEMENTWISE = """
    abs acos acosh add add_any and asin asinh atan atan2 atanh bessel_i0e bessel_i1e
    cbrt ceil clamp conj convert_element_type copy copy_p cos cosh digamma div eq eq_to
    erf erf_inv erfc exp exp2 expm1 floor ge gt igamma igammac imag integer_pow
    is_finite le le_to lgamma log log1p logistic lt lt_to max min mul ne neg nextafter
    not or pow population_count real reduce_precision rem round rsqrt select_n
    shift_left shift_right_arithmetic shift_right_logical sign sin sinh sqrt square
    stop_gradient sub tan tanh xor
    """.split()

_IDENTITIES = ("optimization_barrier", "pcast", "pvary", "sharding_constraint")
_REDUCTIONS = ("and", "max", "min", "or", "prod", "sum", "xor")
_RUNNING = ("cumlogsumexp", "cummax", "cummin", "cumprod", "cumsum")
_WINDOWS = ("reduce_window", "reduce_window_max", "reduce_window_min")


def _elementwise(walk, equation, operands):
    """Axes of one place hold the same units; those of length 1 are repeated."""
    arrays = [axes for axes in operands if axes]
    found = []
    for axes in zip(*arrays, strict=True):
        long = [axis for axis in axes if dims.size(axis) > 1]
        for axis in long[1:]:
            dims.unify(long[0], axis)
        found.append(long[0] if long else ((),))
    return [tuple(found)]


def _identity(walk, equation, operands):
    return operands


def _reduction(walk, equation, operands):
    removed = equation.params["axes"]
    return [tuple(a for n, a in enumerate(operands[0]) if n not in removed)]


def _index(walk, equation, operands):
    """The place of a maximum depends on the order of the units."""
    for axis in equation.params["axes"]:
        dims.freeze([operands[0][axis]])
    return _reduction(walk, equation, operands)


def _running(walk, equation, operands):
    dims.freeze([operands[0][equation.params["axis"]]])
    return [operands[0]]


def _sort(walk, equation, operands):
    along = equation.params["dimension"]
    _elementwise(walk, equation, operands)
    dims.freeze([operands[0][along]])
    return operands


def _top_k(walk, equation, operands):
    dims.freeze([operands[0][-1]])
    last = frozen(equation.outvars[0].aval.shape[-1:])
    return [(*operands[0][:-1], *last)] * 2


def _window(walk, equation, operands):
    """Pooling: axes with windows of one entry stay."""
    shape, params = equation.outvars[0].aval.shape, equation.params
    found = []
    for n, axis in enumerate(operands[0]):
        moves = (params["window_strides"][n], *params["padding"][n]) != (1, 0, 0)
        if moves or params["window_dimensions"][n] != 1:
            dims.freeze([axis])
            axis = dims.fresh(shape[n], dims.NATURAL)
        found.append(axis)
    return [tuple(found)]


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


def _iota(walk, equation, operands):
    along = equation.params["dimension"]
    shape = equation.outvars[0].aval.shape
    reasons = [dims.NATURAL if n == along else None for n in range(len(shape))]
    return [tuple(map(dims.fresh, shape, reasons))]


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
    numbers, sizes = equation.params["dimension_numbers"], equation.params["slice_sizes"]
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


def _fixed(walk, equation, operands):
    return stop(equation, operands, dims.NATURAL)


RULES: dict[str, Rule] = {
    **dict.fromkeys(_ELEMENTWISE, _elementwise),
    **dict.fromkeys(_IDENTITIES, _identity),
    **{f"reduce_{name}": _reduction for name in _REDUCTIONS},
    **dict.fromkeys(("argmax", "argmin"), _index),
    **dict.fromkeys(_RUNNING, _running),
    **dict.fromkeys((*_WINDOWS, "reduce_window_sum"), _window),
    "broadcast_in_dim": _broadcast,
    "concatenate": _concatenate,
    "dynamic_slice": _dynamic_slice,
    "dynamic_update_slice": _dynamic_update_slice,
    "gather": _gather,
    "iota": _iota,
    "pad": _pad,
    "platform_index": _fixed,
    "random_bits": _fixed,
    "random_fold_in": _fixed,
    "random_seed": _fixed,
    "random_split": _fixed,
    "random_unwrap": _fixed,
    "random_wrap": _fixed,
    "reshape": _reshape,
    "rev": _reverse,
    "slice": _slice,
    "sort": _sort,
    "split": _split,
    "squeeze": _squeeze,
    "threefry2x32": _fixed,
    "top_k": _top_k,
    "transpose": _transpose,
}
