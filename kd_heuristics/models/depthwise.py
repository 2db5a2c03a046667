"""A convolution of each channel with a kernel of its own, lowered by platform."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from kd_heuristics.models import layers


class DepthwiseConv(nn.Module):
    """`flax.linen.Conv` with as many groups as channels, without bias.

    y[n, i, j, c] = sum over a, b of
        x[n, s i + a - m, s j + b - m, c] * kernel[a, b, 0, c]

    with stride s and margin m = (kernel_size - 1) / 2; outside x is 0.

    Attributes:
      kernel_size: odd.
      stride: in pixels, both ways.
      kernel_init: of the kernel [kernel_size, kernel_size, 1, channels].
      dtype: of the convolution.
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
    """The convolution of `DepthwiseConv`.

    On CPU a sum of shifted maps, each times its weight: XLA's grouped convolution is
    slow there, and its gradients more so; elsewhere `jax.lax`'s. For a backward pass x
    and the kernel are saved, and nothing that a platform makes of them.

    Args:
      x: float [n, h, w, c].
      kernel: of the same type, [k, k, 1, c] with k odd.
      stride: in pixels, both ways.

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
    size = kernel.shape[0]
    edges = ((0, 0), (margin, margin), (margin, margin), (0, 0))
    padded = jnp.pad(x, edges)
    # The last window begins at the last multiple of the stride.
    height, width = ((side - 1) // stride * stride + 1 for side in x.shape[1:3])
    total = jnp.zeros((), x.dtype)
    for i in range(size):
        for j in range(size):
            part = padded[:, i : i + height : stride, j : j + width : stride]
            total = total + part * kernel[i, j, 0][None, None, None]
    return total


def _grouped(x, kernel, *, stride, margin):
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        ((margin, margin), (margin, margin)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )
