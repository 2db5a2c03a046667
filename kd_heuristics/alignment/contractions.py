"""When a permutation of units passes through products and convolutions."""

from kd_heuristics.alignment import dims
from kd_heuristics.alignment.dims import Dim
from kd_heuristics.alignment.program import Axes, Rule, frozen, stop


def _dot(walk, equation, operands):
    """A product: summed axes hold the same units, and so do axes of a batch."""
    (summed_a, summed_b), (batch_a, batch_b) = equation.params["dimension_numbers"]
    a, b = operands
    pairs = [*zip(batch_a, batch_b, strict=True), *zip(summed_a, summed_b, strict=True)]
    for x, y in pairs:
        dims.unify(a[x], b[y])
    _note(walk, a, (*batch_a, *summed_a), summed_a, b, summed_b)
    free_a = [axis for n, axis in enumerate(a) if n not in (*batch_a, *summed_a)]
    free_b = [axis for n, axis in enumerate(b) if n not in (*batch_b, *summed_b)]
    return [(*(a[n] for n in batch_a), *free_a, *free_b)]


def _note(walk, a, inner, summed_a, b, summed_b):
    """Tell the walk of both operands' summed axes."""
    if summed_a:
        walk.contracted(0, tuple(a[n] for n in inner))
    if summed_b:
        walk.contracted(1, tuple(a[n] for n in inner))


def _convolution(walk, equation, operands):
    params = equation.params
    numbers, groups = params["dimension_numbers"], params["feature_group_count"]
    if params["batch_group_count"] != 1:
        return stop(equation, operands, "a convolution with groups of images")
    a, b = operands
    images, channels, *positions = (a[n] for n in numbers.lhs_spec)
    outputs, inputs, *taps = (b[n] for n in numbers.rhs_spec)
    dims.freeze([*positions, *taps])
    if groups == 1:
        dims.unify(channels, inputs)
        walk.contracted(0, (channels,))
    else:
        _grouped(walk, groups, channels, inputs, outputs)
    shape = equation.outvars[0].aval.shape
    found = [*frozen(shape)]
    found[numbers.out_spec[0]] = images
    found[numbers.out_spec[1]] = outputs
    return [tuple(found)]


def _grouped(walk, groups, channels, inputs, outputs):
    """Blocks of channels are permuted whole, and channels within each block."""
    block = Dim(groups)
    within = Dim(dims.size(channels) // groups)
    each = Dim(dims.size(outputs) // groups)
    dims.unify(channels, dims.product(block, within))
    dims.unify(outputs, dims.product(block, each))
    dims.unify(inputs, dims.product(within))
    walk.contracted(0, (dims.product(block), inputs))


def _conv2d(walk, equation, operands) -> list[Axes]:
    """The convolution of this package's models, [n, h, w, c] and [kh, kw, c, d]."""
    if equation.params["role"] != "output":
        return stop(equation, operands, "a gradient of a convolution")
    a, b = operands
    networks: Axes = ()
    if equation.params["stacked"]:
        dims.unify(a[0], b[0])
        networks, a, b = a[:1], a[1:], b[1:]
    dims.freeze([*a[1:3], *b[:2]])
    dims.unify(a[3], b[2])
    walk.contracted(0, (*networks, a[3]))
    positions = frozen(equation.outvars[0].aval.shape[-3:-1])
    found: Axes = (*networks, a[0], *positions, b[3])
    return [found]


CONTRACTIONS: dict[str, Rule] = {
    "conv_general_dilated": _convolution,
    "dot_general": _dot,
    "kd_conv2d": _conv2d,
}
