"""Computes the three operations as plain convolutions, for GPUs and TPUs."""

import jax
from jax import lax

from kd_heuristics.models.conv.geometry import INPUT, KERNEL, OUTPUT, Geometry

_LAYOUT = ("NHWC", "HWIO", "NHWC")
_INPUT_LAYOUT = ("NHWC", "HWOI", "NHWC")  # kernels map output to input
_KERNEL_LAYOUT = ("CHWN", "IHWO", "HWNC")  # channels act as batch and the reverse


def output(x: jax.Array, kernel: jax.Array, geometry: Geometry) -> jax.Array:
    """Convolves x [n, h, w, c] with kernel [kh, kw, c, d]."""
    preferred = geometry.result_dtype
    return lax.conv_general_dilated(
        x,
        kernel,
        geometry.strides,
        geometry.padding,
        dimension_numbers=_LAYOUT,
        precision=geometry.precision,
        preferred_element_type=None if preferred == x.dtype else preferred,
    )


# The two adjoints differ in every argument of the call; one function would hide which.
def input_gradient(dy: jax.Array, kernel: jax.Array, geometry: Geometry) -> jax.Array:
    """Adjoint of `output` in x: convolves the dilated dy [n, h', w', d]."""
    dx = lax.conv_general_dilated(
        dy,
        lax.rev(kernel, (0, 1)).astype(dy.dtype),
        (1, 1),
        geometry.input_gradient_padding,
        lhs_dilation=geometry.strides,
        dimension_numbers=_INPUT_LAYOUT,
        precision=geometry.precision,
    )
    return dx.astype(geometry.operand_dtype)


def kernel_gradient(x: jax.Array, dy: jax.Array, geometry: Geometry) -> jax.Array:
    """Adjoint of `output` in the kernel: convolves x with the dilated dy."""
    dk = lax.conv_general_dilated(
        x.astype(dy.dtype),
        dy,
        (1, 1),
        geometry.kernel_gradient_padding,
        rhs_dilation=geometry.strides,
        dimension_numbers=_KERNEL_LAYOUT,
        precision=geometry.precision,
    )
    return dk.astype(geometry.operand_dtype)


OPERATIONS = {OUTPUT: output, INPUT: input_gradient, KERNEL: kernel_gradient}
