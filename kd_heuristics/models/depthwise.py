"""Convolves each channel with its own kernel, lowered by platform."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from kd_heuristics.models import layers


class DepthwiseConv(nn.Module):
    """Depthwise convolution without bias: `flax.linen.Conv` with one group per channel.

    y[n, i, j, c] = sum over a, b of
        x[n, s i + a - m, s j + b - m, c] * kernel[a, b, 0, c]

    with stride s and margin m = (kernel_size - 1) / 2; x is 0 outside the map.

    Attributes:
      kernel_size: side of the kernel in pixels, odd.
      stride: stride in pixels, along both axes.
      kernel_init: initialiser of the kernel [kernel_size, kernel_size, 1, channels].
      dtype: compute dtype.
    """

    kernel_size: int
    stride: int = 1
    kernel_init: Any = layers.he_normal()
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (self.kernel_size, self.kernel_size, 1, x.shape[-1])
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
        return depthwise(
            x.astype(self.dtype), kernel.astype(self.dtype), stride=self.stride
        )


def depthwise(x: jax.Array, kernel: jax.Array, *, stride: int = 1) -> jax.Array:
    """Computes the convolution of `DepthwiseConv`.

    On CPU it sums shifted maps times their weights, because XLA's grouped convolution,
    and even more its gradient, is slow there. Other platforms use `jax.lax`. The
    backward pass saves only x and the kernel, and no intermediate of either lowering.

    Args:
      x: float [n, h, w, c].
      kernel: [k, k, 1, c] of the same type, with k odd.
      stride: stride in pixels, along both axes.

    Returns: [n, ceil(h / stride), ceil(w / stride), c].

    >>> depthwise(jnp.ones((1, 3, 3, 1)), jnp.ones((3, 3, 1, 1)))[0, ..., 0].tolist()
    [[4.0, 6.0, 4.0], [6.0, 9.0, 6.0], [4.0, 6.0, 4.0]]
    """
    options = {"stride": stride, "margin": kernel.shape[0] // 2}
    shifted, grouped = (
        functools.partial(lowering, **options) for lowering in (_shifted, _grouped)
    )
    choose = functools.partial(jax.lax.platform_dependent, cpu=shifted, default=grouped)
    return jax.checkpoint(choose)(x, kernel)


def _shifted(x, kernel, *, stride, margin):
    """Sums shifted maps, each times its weight."""
    size = kernel.shape[0]
    edges = ((0, 0), (margin, margin), (margin, margin), (0, 0))
    padded = jnp.pad(x, edges)
    # The last window starts at the last multiple of the stride.
    height, width = ((side - 1) // stride * stride + 1 for side in x.shape[1:3])
    total = jnp.zeros((), x.dtype)
    for i in range(size):
        for j in range(size):
            part = padded[:, i : i + height : stride, j : j + width : stride]
            total = total + part * kernel[i, j, 0][None, None, None]
    return total


def _grouped(x, kernel, *, stride, margin):
    """Convolves with one feature group per channel."""
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        ((margin, margin), (margin, margin)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )
