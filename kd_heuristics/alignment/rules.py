"""When a permutation of units passes through elementwise functions and reductions."""

from kd_heuristics.alignment import dims
from kd_heuristics.alignment.program import Rule, frozen, stop

_ELEMENTWISE = (
    "abs acos acosh add add_any and asin asinh atan atan2 atanh bessel_i0e "
    "bessel_i1e cbrt ceil clamp conj convert_element_type copy copy_p cos cosh "
    "digamma div eq eq_to erf erf_inv erfc exp exp2 expm1 floor ge gt igamma "
    "igammac imag integer_pow is_finite le le_to lgamma log log1p logistic lt lt_to "
    "max min mul ne neg nextafter not or pow population_count real reduce_precision "
    "rem round rsqrt select_n shift_left shift_right_arithmetic shift_right_logical "
    "sign sin sinh sqrt square stop_gradient sub tan tanh xor "
)

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


def _iota(walk, equation, operands):
    along = equation.params["dimension"]
    shape = equation.outvars[0].aval.shape
    reasons = [dims.NATURAL if n == along else None for n in range(len(shape))]
    return [tuple(map(dims.fresh, shape, reasons))]


def _fixed(walk, equation, operands):
    return stop(equation, operands, dims.NATURAL)


RULES: dict[str, Rule] = {
    **dict.fromkeys(_ELEMENTWISE.split(), _elementwise),
    **dict.fromkeys(_IDENTITIES, _identity),
    **{f"reduce_{name}": _reduction for name in _REDUCTIONS},
    **dict.fromkeys(("argmax", "argmin"), _index),
    **dict.fromkeys(_RUNNING, _running),
    **dict.fromkeys((*_WINDOWS, "reduce_window_sum"), _window),
    "iota": _iota,
    "platform_index": _fixed,
    "random_bits": _fixed,
    "random_fold_in": _fixed,
    "random_seed": _fixed,
    "random_split": _fixed,
    "random_unwrap": _fixed,
    "random_wrap": _fixed,
    "sort": _sort,
    "threefry2x32": _fixed,
    "top_k": _top_k,
}
