"""Computes the three operations on CPU, each by the fastest recipe for its shape.

XLA's CPU convolution is fast in one case: a forward convolution, with one kernel for
all images, on a map larger than the kernel. The recipes, chosen by measurement, are:

- *forward convolution* whenever possible, also for the gradient in the input at stride
  1 (kernel flipped) and for the gradient in the kernel (the input's channels act as
  batch, and the sum runs over the images). `runtime.onednn` says when oneDNN computes
  the first two.
- *dense product* for a map with no more pixels than the kernel has taps. The kernel is
  expanded to the matrix from all input to all output pixels. For 3x3 on 2x2 that is 16
  blocks; patches would multiply 36.
- *plain product* for 1x1 kernels.
- *shares* for the gradient in the input at other strides or with few channels. Each
  output pixel times the kernel is its window's share; the shifted shares are added.
"""

import functools
import itertools
import math
import operator

import jax
import jax.numpy as jnp
from jax import lax

from kd_heuristics.models.conv.geometry import INPUT, KERNEL, OUTPUT, Geometry
from kd_heuristics.runtime import onednn
from kd_heuristics.runtime.precision import widened

# A convolution with at most this many output channels is slow (at 32x32).
_FEW_CHANNELS = 4


def output(x: jax.Array, kernel: jax.Array, geometry: Geometry) -> jax.Array:
    """The convolution of x [n, h, w, c] with kernel [kh, kw, c, d]."""
    # CPUs emulate the narrower types and would round each sum.
    x, kernel = widened(x), widened(kernel)
    features = kernel.shape[3]
    if _is_dense(geometry):
        matrix = _dense_matrix(kernel, geometry)
        out = _matmul(_flat(x), matrix, geometry)
    elif _is_pointwise(geometry):
        out = _matmul(_pixels(x, geometry), kernel[0, 0], geometry)
    else:
        strides, padding = geometry.strides, geometry.padding
        out = _convolve(x, kernel, strides, padding, geometry)
    shape = (x.shape[0], *geometry.output_size, features)
    return out.reshape(shape).astype(geometry.result_dtype)


def input_gradient(dy: jax.Array, kernel: jax.Array, geometry: Geometry) -> jax.Array:
    """The adjoint of `output` in x, from dy [n, h', w', d]."""
    dy, kernel = widened(dy), widened(kernel)
    channels, features = kernel.shape[2:]
    if _is_dense(geometry):
        matrix = _dense_matrix(kernel, geometry)
        dx = _matmul(_flat(dy), matrix.T, geometry)
        dx = dx.reshape(dy.shape[0], *geometry.input_size, channels)
    elif geometry.strides != (1, 1) or channels <= _FEW_CHANNELS:
        shares = _matmul(dy, kernel.reshape(-1, features).T, geometry)
        dx = _add_shares(shares, geometry)
    else:
        dx = _forward_input_gradient(dy, kernel, geometry)
    return dx.astype(geometry.operand_dtype)


def kernel_gradient(x: jax.Array, dy: jax.Array, geometry: Geometry) -> jax.Array:
    """The adjoint of `output` in the kernel, from x [n, h, w, c], dy [n, h', w', d]."""
    x, dy = widened(x), widened(dy)
    channels, features = x.shape[3], dy.shape[3]
    if _is_dense(geometry):
        matrix = _matmul(_flat(x).T, _flat(dy), geometry)
        dk = _sum_dense_blocks(matrix, channels, features, geometry)
    elif _is_pointwise(geometry):
        pixels = _pixels(x, geometry).reshape(-1, channels)
        dk = _matmul(pixels.T, dy.reshape(-1, features), geometry)[None, None]
    else:
        dk = _forward_kernel_gradient(x, dy, geometry)
    return dk.astype(geometry.operand_dtype)


OPERATIONS = {OUTPUT: output, INPUT: input_gradient, KERNEL: kernel_gradient}


def stacked(role: str, a: jax.Array, b: jax.Array, geometry: Geometry) -> jax.Array:
    """Runs the operation for several networks, on arrays with a leading network axis.

    The networks run in sequence, because a batched matrix product is slower on CPU.
    """
    operation = functools.partial(OPERATIONS[role], geometry=geometry)
    return lax.map(lambda operands: operation(*operands), (a, b))


def _flat(array):
    """Flattens all axes but the first."""
    return array.reshape(array.shape[0], math.prod(array.shape[1:]))


def _is_dense(geometry):
    """Whether the dense product applies: no map has more pixels than the kernel."""
    pixels = max(math.prod(geometry.input_size), math.prod(geometry.output_size))
    return pixels <= math.prod(geometry.kernel_size)


def _is_pointwise(geometry):
    return math.prod(geometry.kernel_size) == 1


def _matmul(a, b, geometry):
    return jnp.matmul(a, b, precision=geometry.precision)


def _convolve(x, kernel, strides, padding, geometry):
    return onednn.convolve(
        x,
        kernel,
        window_strides=tuple(strides),
        padding=tuple(padding),
        precision=geometry.precision,
        differentiated=geometry.differentiated,
    )


def _forward_input_gradient(dy, kernel, geometry):
    """Convolves dy with the flipped kernel."""
    # The barriers here and below keep XLA from folding the transposes back into the
    # slow form of the convolution.
    kernel = lax.optimization_barrier(lax.rev(kernel, (0, 1)).swapaxes(2, 3))
    return _convolve(dy, kernel, (1, 1), geometry.input_gradient_padding, geometry)


def _forward_kernel_gradient(x, dy, geometry):
    """Convolves with input channels as batch and images as channels to sum over."""
    x, dy = lax.optimization_barrier(
        (x.transpose(3, 1, 2, 0), dy.transpose(1, 2, 0, 3))
    )
    dk = lax.conv_general_dilated(
        x,
        dy,
        (1, 1),
        geometry.kernel_gradient_padding,
        rhs_dilation=geometry.strides,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=geometry.precision,
    )
    return dk.transpose(1, 2, 0, 3)


def _pixels(x, geometry):
    """Selects the pixels that a 1x1 kernel sees, [n, h', w', c]."""
    stride_y, stride_x = geometry.strides
    edges = [(low, high, 0) for low, high in geometry.padding]
    return _pad(x, [(0, 0, 0), *edges, (0, 0, 0)])[:, ::stride_y, ::stride_x]


def _add_shares(shares, geometry):
    """Adds the windows' shares [n, h', w', kh * kw * c], each at its position."""
    rows, columns = geometry.kernel_size
    channels = shares.shape[-1] // (rows * columns)
    parts = []
    for index, tap in enumerate(itertools.product(range(rows), range(columns))):
        part = shares[..., index * channels : (index + 1) * channels]
        edges = [
            (position - low, size + low - position - stride * (out - 1) - 1, stride - 1)
            for position, (size, _, stride, out, (low, _)) in zip(
                tap, geometry.axes, strict=True
            )
        ]
        parts.append(_pad(part, [(0, 0, 0), *edges, (0, 0, 0)]))
    return functools.reduce(operator.add, parts)


def _pad(array, edges):
    """Pads with zeros, as `lax.pad`."""
    return lax.pad(array, jnp.zeros((), array.dtype), edges)


def _dense_matrix(kernel, geometry):
    """Expands the kernel to a matrix [h * w * c, h' * w' * d] from input to output."""
    features = kernel.shape[3]
    before, after = _dense_margins(geometry)
    margins = [(*edge, 0) for edge in zip(before, after, strict=True)]
    kernel = _pad(kernel, [*margins, (0, 0, 0), (0, 0, 0)])
    height, width = geometry.input_size
    blocks = [
        kernel[i : i + height, j : j + width].reshape(-1, features)
        for i, j in _dense_starts(geometry)
    ]
    return jnp.concatenate(blocks, axis=1)


def _sum_dense_blocks(matrix, channels, features, geometry):
    """Adjoint of `_dense_matrix`."""
    before, _ = _dense_margins(geometry)
    parts = []
    for index, start in enumerate(_dense_starts(geometry)):
        block = matrix[:, index * features : (index + 1) * features]
        block = block.reshape(*geometry.input_size, channels, features)
        # Place the block in the padded kernel and cut off what falls in its margins.
        edges = [
            (first - low, kernel + low - first - size, 0)
            for first, low, (size, kernel, *_) in zip(
                start, before, geometry.axes, strict=True
            )
        ]
        parts.append(_pad(block, [*edges, (0, 0, 0), (0, 0, 0)]))
    return functools.reduce(operator.add, parts)


def _dense_margins(geometry):
    """Counts zeros around the kernel that make every output pixel a slice of it."""
    before, after = [], []
    for size, kernel, stride, out, (low, _) in geometry.axes:
        before.append(max(0, stride * (out - 1) - low))
        after.append(max(0, size + low - kernel))
    return before, after


def _dense_starts(geometry):
    """Lists where each output pixel's slice of the padded kernel starts."""
    before, _ = _dense_margins(geometry)
    rows, columns = (
        [first + low - stride * position for position in range(out)]
        for first, (_, _, stride, out, (low, _)) in zip(
            before, geometry.axes, strict=True
        )
    )
    return [(i, j) for i in rows for j in columns]
