"""Defines residual networks of basic blocks, activated after the addition ("v1").

Source: He et al. 2015, "Deep Residual Learning": section 3.3 and table 1 for ImageNet,
section 4.2 for CIFAR (6 n + 2 layers, shortcuts without parameters). `resnet18` is
their ImageNet network with the stem of the CIFAR networks: 3x3, stride 1, no pool. Yim
et al. 2017 use the CIFAR networks with a batch norm of the images in front
(`input_batch_norm`), four times as wide on CIFAR-100 (`width=4`), and the ImageNet
networks of 34 and 20 layers.
"""

import functools
import itertools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from kd_heuristics.models import layers, pool
from kd_heuristics.models.normalization import BatchNorm

_LARGE = (64, 128, 256, 512)

# The settings that each name fixes; `shortcut` is the default of an option.
CONFIGS: dict[str, dict[str, Any]] = {
    "resnet18": {"num_blocks": (2, 2, 2, 2), "channels": _LARGE},
    **{
        f"resnet{6 * n + 2}": {
            "num_blocks": (n, n, n),
            "channels": (16, 32, 64),
            "shortcut": "padding",
        }
        for n in (1, 2, 3, 4, 5)
    },
    "resnet34_imagenet": {
        "num_blocks": (3, 4, 6, 3),
        "channels": _LARGE,
        "stem": "imagenet",
    },
    "resnet20_imagenet": {
        "num_blocks": (2, 2, 3, 2),
        "channels": _LARGE,
        "stem": "imagenet",
    },
}

SHORTCUTS = ("padding", "projection")


class ResNet(nn.Module):
    """ResNet of basic blocks; a call returns `(logits, features)`.

    Parameters: `input_bn`, `conv`, `bn`, `block_s_b` for block b of section s (from 0),
    with `conv_0`, `bn_0`, `conv_1`, `bn_1` and, if it projects, `shortcut_conv` and
    `shortcut_bn`; `fc`.

    Features, in call order: bn of the images, if any; conv, bn, relu and, in ImageNet
    networks, pool; for each block conv, bn, relu, conv, bn, shortcut_conv and
    shortcut_bn if it projects, add and block; last pool (the mean over all pixels) and
    fc. The ReLU after the addition is named "block", because it is the block's output.
    `sections` finds the residual sections among them.

    Attributes:
      num_blocks: blocks of each section; each section but the first halves the map.
      channels: channels of each section.
      num_classes: number of logits.
      stem: "cifar" is a 3x3 convolution; "imagenet" is 7x7 at stride 2, then a 3x3
        max-pool at stride 2.
      shortcut: shortcut of blocks that change the size. "padding" takes every second
        pixel and appends channels of zeros (He et al.'s option A); "projection" applies
        a 1x1 convolution and batch norm (option B).
      input_batch_norm: whether to apply batch norm to the images.
      width: multiplier of the channels, rounded, at least 1.
      init_factor: scale of the He-normal standard deviation, for every kernel.
      batch_norm_momentum: share of the running statistics kept at each step.
      batch_norm_groups: number of parts of a training batch with separate statistics.
      dtype: compute dtype; parameters and statistics stay float32.
    """

    num_blocks: tuple[int, ...]
    channels: tuple[int, ...]
    num_classes: int
    stem: str = "cifar"
    shortcut: str = "projection"
    input_batch_norm: bool = False
    width: float | int = 1.0
    init_factor: float = 1.0
    batch_norm_momentum: float = 0.9
    batch_norm_groups: int = 1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool):
        halvings = len(self.num_blocks) - 1 + (2 if self.stem == "imagenet" else 0)
        layers.check_size(images, halvings, "this ResNet")
        kernel_init = layers.he_normal(self.init_factor)
        conv = functools.partial(
            layers.convolution,
            use_bias=False,
            kernel_init=kernel_init,
            dtype=self.dtype,
        )
        norm = functools.partial(
            BatchNorm,
            use_running_average=not train,
            momentum=self.batch_norm_momentum,
            groups=self.batch_norm_groups,
            dtype=self.dtype,
        )
        record = layers.Record()
        x = images
        if self.input_batch_norm:
            x = record("bn", norm(name="input_bn")(x))
        x = self._stem(x, record, conv, norm)
        for channels, stride, name in layers.residual_blocks(
            self.num_blocks, self.channels, self.width
        ):
            block = BasicBlock(
                channels, stride, self.shortcut, conv=conv, norm=norm, name=name
            )
            x = block(x, record)
        x = record("pool", x.mean((1, 2)))
        dense = nn.Dense(
            self.num_classes, kernel_init=kernel_init, dtype=self.dtype, name="fc"
        )
        return record("fc", dense(x)), record.outputs

    def _stem(self, x, record, conv, norm):
        large = self.stem == "imagenet"
        channels = layers.scaled(self.channels[0], self.width)
        size, stride = (7, 2) if large else (3, 1)
        x = record("conv", conv(channels, size, strides=stride, name="conv")(x))
        x = record("bn", norm(name="bn")(x))
        x = record("relu", nn.relu(x))
        return record("pool", pool.max_pool_3x3(x)) if large else x


class BasicBlock(nn.Module):
    """ReLU(bn(conv(ReLU(bn(conv(x))))) + shortcut(x)), both kernels 3x3.

    Attributes:
      channels: channels of both convolutions.
      stride: stride of the first convolution and of the shortcut.
      shortcut: "padding" or "projection".
      conv: `(features, kernel_size, strides=, name=) -> layer`.
      norm: `(name=) -> layer`.
    """

    channels: int
    stride: int
    shortcut: str
    conv: Any
    norm: Any

    @nn.compact
    def __call__(self, x: jax.Array, record: layers.Record) -> jax.Array:
        first = self.conv(self.channels, 3, strides=self.stride, name="conv_0")
        y = record("conv", first(x))
        y = record("bn", self.norm(name="bn_0")(y))
        y = record("relu", nn.relu(y))
        y = record("conv", self.conv(self.channels, 3, name="conv_1")(y))
        y = record("bn", self.norm(name="bn_1")(y))
        y = record("add", y + self._shortcut(x, record))
        return record("block", nn.relu(y))

    def _shortcut(self, x, record):
        added = self.channels - x.shape[-1]
        if self.stride == 1 and added == 0:
            return x
        if self.shortcut == "padding":
            x = x[:, :: self.stride, :: self.stride]
            return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, added)))
        layer = self.conv(self.channels, 1, strides=self.stride, name="shortcut_conv")
        x = record("shortcut_conv", layer(x))
        return record("shortcut_bn", self.norm(name="shortcut_bn")(x))


def sections(features: Mapping[str, Any]) -> tuple[tuple[str, ...], ...]:
    """Finds a ResNet's features at the boundaries of its residual sections.

    A section is a run of blocks whose maps have one size. Its tuple holds the name of
    its input, then the name of each block's output. The flow matrices of Yim et al.
    2017, figure 2, pair the first and the last name of each tuple. The input of a later
    section is the output of the previous one, which is larger and has other channels.

    Args:
      features: what `network.features` returns, or its shapes from `jax.eval_shape`.

    Returns: one tuple of names per section.

    Raises: ValueError if the features are not those of a ResNet.

    >>> from kd_heuristics import models
    >>> network = models.create("resnet14", num_classes=10)
    >>> images = jnp.zeros((1, 32, 32, 3))
    >>> variables = jax.eval_shape(network.init, jax.random.key(0), images)
    >>> sections(jax.eval_shape(network.features, variables, images))[:2]
    (('02_relu', '09_block', '16_block'), ('16_block', '23_block', '30_block'))
    """
    names = sorted(features)
    kinds = [name.split("_", 1)[-1] for name in names]
    if "block" not in kinds:
        raise ValueError(
            f"these features have no residual blocks: {', '.join(names) or '(none)'}; "
            "give the features of a ResNet"
        )
    blocks = [name for name, kind in zip(names, kinds, strict=True) if kind == "block"]
    # The first convolution is the stem's, the second the first block's. Blocks that
    # normalise first start with the first norm instead.
    first = "gn" if "gn" in kinds else "conv"
    start = kinds.index(first, kinds.index("conv") + 1)
    previous = names[start - 1]
    found = []
    for _, run in itertools.groupby(blocks, key=lambda name: features[name].shape):
        found.append((previous, *run))
        previous = found[-1][-1]
    return tuple(found)
