"""Describes the static part of a 2-D convolution."""

import dataclasses
from typing import Any

import numpy as np

# The three operations, named after the array that each computes.
OUTPUT, INPUT, KERNEL = "output", "input", "kernel"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Geometry:
    """Sizes, strides and types of a convolution; arrays give batch and channels.

    Attributes:
      input_size: height and width of the input map, in pixels.
      kernel_size: height and width of the kernel, in pixels.
      strides: distance between neighbouring windows, in pixels, vertical first.
      padding: numbers of zero rows (top, bottom) and zero columns (left, right);
        negative numbers crop.
      precision: as in `jax.lax.conv_general_dilated`.
      operand_dtype: type of the input and of the kernel.
      result_dtype: type of the output.
      differentiated: whether the operation is part of a derivative.
    """

    input_size: tuple[int, ...]
    kernel_size: tuple[int, ...]
    strides: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    precision: Any
    operand_dtype: np.dtype
    result_dtype: np.dtype
    differentiated: bool = False

    @property
    def output_size(self) -> tuple[int, ...]:
        """Height and width of the output map: floor((n + pad - k) / stride) + 1."""
        return tuple(
            (size + sum(pad) - kernel) // stride + 1
            for size, pad, kernel, stride in zip(
                self.input_size,
                self.padding,
                self.kernel_size,
                self.strides,
                strict=True,
            )
        )

    @property
    def is_empty(self) -> bool:
        """Whether a map or the kernel has no pixels."""
        return min(*self.input_size, *self.kernel_size, *self.output_size) <= 0

    @property
    def input_gradient_padding(self) -> list[tuple[int, int]]:
        """Padding of the dilated output gradient to compute the input gradient."""
        return [
            (kernel - 1 - low, size + low - stride * (out - 1) - 1)
            for size, kernel, stride, out, (low, _) in self.axes
        ]

    @property
    def kernel_gradient_padding(self) -> list[tuple[int, int]]:
        """Padding of the input to compute the kernel gradient."""
        return [
            (low, stride * (out - 1) + kernel - size - low)
            for size, kernel, stride, out, (low, _) in self.axes
        ]

    @property
    def axes(self) -> list[tuple[int, int, int, int, tuple[int, int]]]:
        """(input size, kernel size, stride, output size, padding), vertical first."""
        columns = (
            self.input_size,
            self.kernel_size,
            self.strides,
            self.output_size,
            self.padding,
        )
        return list(zip(*columns, strict=True))
