"""Defines BiT-ResNet: pre-activation bottlenecks, group norm, standardised weights.

Sources: Kolesnikov et al. 2020, "Big Transfer (BiT)", section 2; He et al. 2016,
"Identity Mappings in Deep Residual Networks" ("v2"); Qiao et al. 2019, "Weight
Standardization"; Wu & He 2018, "Group Normalization". R152x2 teaches R50x1 in Beyer et
al. 2022. No layer mixes images of a batch, so there are no running statistics.

`models.bit_weights` loads the released weights into these parameters.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from kd_heuristics.models import layers, pool
from kd_heuristics.models.conv import conv_general_dilated
from kd_heuristics.models.normalization import group_norm

_BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
_RELEASED = {50: (1, 3), 101: (1, 3), 152: (2, 4)}

# The settings that each name fixes; `norm_groups` is the default of an option.
CONFIGS: dict[str, dict[str, Any]] = {
    **{
        f"bit_r{depth}x{factor}": {
            "num_blocks": blocks,
            "channels": tuple(64 * factor * 2**section for section in range(4)),
        }
        for depth, blocks in _BLOCKS.items()
        for factor in _RELEASED[depth]
    },
    # Ours, for small images on a CPU.
    "bit_tiny": {
        "num_blocks": (1, 1, 1),
        "channels": (16, 32, 64),
        "stem_size": 3,
        "norm_groups": 4,
    },
}


class BiT(nn.Module):
    """BiT-ResNet; a call returns `(logits, features)`.

    Parameters: `conv`, `block_s_b` for block b of section s (from 0), with `gn_i` and
    `conv_i` for i in 0..2 and, if it projects, `shortcut_conv`; `gn`, `fc`. As in the
    released code, the classifier's kernel starts at zero, so all logits start at 0.

    Features, in call order: conv and pool; for each block gn, relu, shortcut_conv if it
    projects, conv, gn, relu, conv, gn, relu, conv and block, which is the sum; last gn,
    relu, pool (the mean over all pixels) and fc.

    Attributes:
      num_blocks: blocks of each section. The stem halves the map twice, and each
        section but the first halves it once.
      channels: channels of each section's 3x3 convolutions; its maps have four times
        as many.
      num_classes: number of logits.
      stem_size: side of the stem's kernel, in pixels.
      width: multiplier of the channels, rounded, at least 1.
      norm_groups: number of groups of each group norm; must divide all channels.
      init_factor: scale of the He-normal standard deviation, for every standardised
        kernel. It does not change the outputs, but it changes the speed of learning.
      dtype: compute dtype; parameters stay float32, kernels are standardised in it.
    """

    num_blocks: tuple[int, ...]
    channels: tuple[int, ...]
    num_classes: int
    stem_size: int = 7
    width: float | int = 1.0
    norm_groups: int = 32
    init_factor: float = 1.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool):
        del train  # training and evaluation do not differ
        layers.check_size(images, len(self.num_blocks) + 1, "this BiT-ResNet")
        conv = functools.partial(
            StandardizedConv,
            kernel_init=layers.he_normal(self.init_factor),
            dtype=self.dtype,
        )
        norm = functools.partial(group_norm, self.norm_groups, self.dtype)
        record = layers.Record()
        channels = layers.scaled(self.channels[0], self.width)
        stem = conv(channels, self.stem_size, strides=2, name="conv")
        x = record("conv", stem(images))
        x = record("pool", pool.max_pool_3x3(x))
        for channels, stride, name in layers.residual_blocks(
            self.num_blocks, self.channels, self.width
        ):
            block = Bottleneck(channels, stride, conv=conv, norm=norm, name=name)
            x = block(x, record)
        x = record("relu", nn.relu(record("gn", norm(x, name="gn"))))
        x = record("pool", x.mean((1, 2)))
        zeros = nn.initializers.zeros
        dense = nn.Dense(
            self.num_classes, kernel_init=zeros, dtype=self.dtype, name="fc"
        )
        return record("fc", dense(x)), record.outputs


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolution, each after group norm and ReLU, plus the shortcut.

    The shortcut is x itself, or a 1x1 convolution of ReLU(gn(x)) if the size changes.
    The 3x3 convolution has the stride.

    Attributes:
      channels: channels of the first two convolutions; the last has four times as many.
      stride: 1 or 2.
      conv: `(features, kernel_size, strides=, name=) -> layer`.
      norm: `(x, name=) -> array`.
    """

    channels: int
    stride: int
    conv: Any
    norm: Any

    @nn.compact
    def __call__(self, x: jax.Array, record: layers.Record) -> jax.Array:
        wide = 4 * self.channels
        y = record("relu", nn.relu(record("gn", self.norm(x, name="gn_0"))))
        if self.stride != 1 or x.shape[-1] != wide:
            layer = self.conv(wide, 1, strides=self.stride, name="shortcut_conv")
            x = record("shortcut_conv", layer(y))
        y = record("conv", self.conv(self.channels, 1, name="conv_0")(y))
        y = record("relu", nn.relu(record("gn", self.norm(y, name="gn_1"))))
        layer = self.conv(self.channels, 3, strides=self.stride, name="conv_1")
        y = record("conv", layer(y))
        y = record("relu", nn.relu(record("gn", self.norm(y, name="gn_2"))))
        y = record("conv", self.conv(wide, 1, name="conv_2")(y))
        return record("block", y + x)


class StandardizedConv(nn.Module):
    """Square odd convolution without bias, with a standardised kernel.

    w[i, j, c, d] = (kernel[i, j, c, d] - mean[d]) / sqrt(var[d] + 1e-10), with mean and
    (biased) variance over i, j and c. It pads (kernel_size - 1) / 2 on every side.

    Attributes:
      features: number of output channels.
      kernel_size: side of the kernel in pixels, odd.
      strides: stride in pixels, along both axes.
      kernel_init: initialiser of the float32 kernel [kernel_size, kernel_size, c,
        features].
      dtype: compute dtype.
    """

    features: int
    kernel_size: int
    strides: int = 1
    kernel_init: Any = layers.he_normal()
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        size, margin = self.kernel_size, self.kernel_size // 2
        shape = (size, size, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
        kernel = standardized(kernel)
        return conv_general_dilated(
            x.astype(self.dtype),
            kernel.astype(self.dtype),
            (self.strides, self.strides),
            ((margin, margin), (margin, margin)),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )


def standardized(kernel: jax.Array) -> jax.Array:
    """Standardises a kernel [kh, kw, c, d] over all but the last axis."""
    centred = kernel - kernel.mean((0, 1, 2), keepdims=True)
    var = jnp.square(centred).mean((0, 1, 2), keepdims=True)
    return centred * jax.lax.rsqrt(var + 1e-10)
