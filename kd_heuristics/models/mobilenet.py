"""Defines MobileNetV3, large and small, with group or batch norm.

Source: Howard et al. 2019, "Searching for MobileNetV3", tables 1 and 2. Beyer et al.
2022, section 3.6, distil into it with group norm (8 groups) in place of batch norm.
"""

import functools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from kd_heuristics.models import layers
from kd_heuristics.models.depthwise import DepthwiseConv
from kd_heuristics.models.normalization import BatchNorm, group_norm

NORMS = ("group", "batch")


class Block(NamedTuple):
    """Row of the paper's tables; `expanded` and `out` are numbers of channels."""

    kernel: int
    expanded: int
    out: int
    squeeze: bool
    hard_swish: bool
    stride: int


# Tables 1 and 2 of Howard et al. 2019, row by row.
_LARGE = (
    Block(3, 16, 16, False, False, 1),
    Block(3, 64, 24, False, False, 2),
    Block(3, 72, 24, False, False, 1),
    Block(5, 72, 40, True, False, 2),
    Block(5, 120, 40, True, False, 1),
    Block(5, 120, 40, True, False, 1),
    Block(3, 240, 80, False, True, 2),
    Block(3, 200, 80, False, True, 1),
    Block(3, 184, 80, False, True, 1),
    Block(3, 184, 80, False, True, 1),
    Block(3, 480, 112, True, True, 1),
    Block(3, 672, 112, True, True, 1),
    Block(5, 672, 160, True, True, 2),
    Block(5, 960, 160, True, True, 1),
    Block(5, 960, 160, True, True, 1),
)
_SMALL = (
    Block(3, 16, 16, True, False, 2),
    Block(3, 72, 24, False, False, 2),
    Block(3, 88, 24, False, False, 1),
    Block(5, 96, 40, True, True, 2),
    Block(5, 240, 40, True, True, 1),
    Block(5, 240, 40, True, True, 1),
    Block(5, 120, 48, True, True, 1),
    Block(5, 144, 48, True, True, 1),
    Block(5, 288, 96, True, True, 2),
    Block(5, 576, 96, True, True, 1),
    Block(5, 576, 96, True, True, 1),
)
# Ours, for small images on a CPU.
_TINY = (
    Block(3, 16, 16, False, False, 1),
    Block(3, 48, 24, True, False, 2),
    Block(5, 72, 32, True, True, 2),
)

# The settings that each name fixes.
CONFIGS: dict[str, dict[str, Any]] = {
    "mobilenet_v3_large": {"blocks": _LARGE, "penultimate": 1280},
    "mobilenet_v3_small": {"blocks": _SMALL, "penultimate": 1024},
    "mobilenet_tiny": {"blocks": _TINY, "penultimate": 128},
}


class MobileNetV3(nn.Module):
    """MobileNetV3; a call returns `(logits, features)`.

    Parameters: `conv`, `norm`; `block_bb` for block b from 0, with `expand` and
    `expand_norm` if it widens, `depthwise`, `depthwise_norm`, `squeeze` and `excite` if
    it squeezes, `project`, `project_norm`; `last_conv`, `last_norm`, `fc_0`, `fc_1`.

    Features, in call order, with "gn" or "bn" for norm and "act" for ReLU or hard
    swish: conv, norm, act; for each block conv, norm, act if it widens, depthwise,
    norm, act, excite if it squeezes, conv, norm and, if it adds its input, residual;
    conv, norm, act, pool (the mean over all pixels), fc, act and fc.

    Attributes:
      blocks: see `Block`.
      penultimate: units of the layer before the logits.
      num_classes: number of logits.
      width: multiplier of the channels and of `penultimate`, rounded to multiples of 8.
      norm: "group" or "batch".
      norm_groups: number of groups of each group norm.
      batch_norm_momentum: share of the running statistics kept at each step.
      init_factor: scale of the He-normal standard deviation, for every kernel.
      dtype: compute dtype; parameters and statistics stay float32.
    """

    blocks: tuple[Block, ...]
    penultimate: int
    num_classes: int
    width: float | int = 1.0
    norm: str = "group"
    norm_groups: int = 8
    batch_norm_momentum: float = 0.9
    init_factor: float = 1.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool):
        halvings = 1 + sum(block.stride == 2 for block in self.blocks)
        layers.check_size(images, halvings, "this MobileNetV3")
        record = layers.Record()
        kit = self._kit(train, record)
        stem = divisible(16 * self.width)
        x = kit.conv_norm_act(images, stem, 3, 2, ("conv", "norm"), nn.hard_swish)
        for index, block in enumerate(self.blocks):
            x = InvertedResidual(block, self.width, kit, name=f"block_{index:02d}")(x)
        last = 6 * divisible(self.blocks[-1].out * self.width)
        names = ("last_conv", "last_norm")
        x = kit.conv_norm_act(x, last, 1, 1, names, nn.hard_swish)
        x = record("pool", x.mean((1, 2)))
        hidden = kit.dense(divisible(self.penultimate * self.width), name="fc_0")(x)
        x = record("act", nn.hard_swish(record("fc", hidden)))
        logits = kit.dense(self.num_classes, name="fc_1")(x)
        return record("fc", logits), record.outputs

    def _kit(self, train, record):
        """Collects the layers of the network, for training or evaluation."""
        options = {
            "kernel_init": layers.he_normal(self.init_factor),
            "dtype": self.dtype,
        }
        if self.norm == "group":
            norm = functools.partial(group_norm, self.norm_groups, self.dtype)
        else:
            norm = functools.partial(
                _batch_norm, not train, self.batch_norm_momentum, self.dtype
            )
        return _Kit(record, "gn" if self.norm == "group" else "bn", norm, options)


class _Kit(NamedTuple):
    """Layers that all parts of one network share, and its record."""

    record: layers.Record
    kind: str
    norm: Any
    options: Any

    def dense(self, features, *, name):
        return nn.Dense(features, name=name, **self.options)

    def conv(self, x, features, size, stride, name):
        layer = layers.convolution(
            features, size, strides=stride, use_bias=False, name=name, **self.options
        )
        return self.record("conv", layer(x))

    def conv_norm_act(self, x, features, size, stride, names, act):
        conv_name, norm_name = names
        y = self.conv(x, features, size, stride, conv_name)
        return self.norm_act(y, norm_name, act)

    def norm_act(self, x, name, act):
        return self.record("act", act(self.record(self.kind, self.norm(x, name=name))))


class InvertedResidual(nn.Module):
    """Widens, filters each channel, weighs the channels, narrows and adds the input.

    Attributes:
      block: its row of the table.
      width: multiplier of the channels.
      kit: the network's layers.
    """

    block: Block
    width: float | int
    kit: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        block, kit = self.block, self.kit
        act = nn.hard_swish if block.hard_swish else nn.relu
        expanded, out = (divisible(n * self.width) for n in (block.expanded, block.out))
        y = x
        if expanded != x.shape[-1]:
            y = kit.conv_norm_act(x, expanded, 1, 1, ("expand", "expand_norm"), act)
        layer = DepthwiseConv(
            block.kernel, block.stride, name="depthwise", **kit.options
        )
        y = kit.norm_act(kit.record("depthwise", layer(y)), "depthwise_norm", act)
        if block.squeeze:
            y = kit.record("excite", self._excited(y))
        y = kit.conv(y, out, 1, 1, "project")
        y = kit.record(kit.kind, kit.norm(y, name="project_norm"))
        if block.stride > 1 or x.shape != y.shape:
            return y
        return kit.record("residual", y + x)

    def _excited(self, x):
        """Scales each channel by a weight in [0, 1] computed from the channel means."""
        channels = x.shape[-1]
        mean = x.mean((1, 2))
        hidden = nn.relu(self.kit.dense(divisible(channels // 4), name="squeeze")(mean))
        weight = nn.hard_sigmoid(self.kit.dense(channels, name="excite")(hidden))
        return x * weight[:, None, None]


def _batch_norm(evaluation, momentum, dtype, x, *, name):
    """Applies batch norm, with the epsilon of MobileNetV3, in the calling module."""
    layer = BatchNorm(
        use_running_average=evaluation,
        momentum=momentum,
        epsilon=1e-3,
        dtype=dtype,
        name=name,
    )
    return layer(x)


def divisible(channels: float | int) -> int:
    """Rounds to a multiple of 8, at least 8; up if rounding down would lose over 10 %.

    >>> [divisible(n) for n in (1, 18, 100, 11)]
    [8, 24, 104, 16]
    """
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest
