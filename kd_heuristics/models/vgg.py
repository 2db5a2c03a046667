"""Defines VGG for 32×32 images, with and without batch norm.

Source: Simonyan and Zisserman 2015, configurations A (11 layers) and D (16 layers),
with the classifier of Gotmare et al. 2019: Dropout FC ReLU Dropout FC ReLU FC.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from kd_heuristics.models import layers, pool
from kd_heuristics.models.normalization import BatchNorm

# Channels of the convolutions of each stage; a 2×2 max-pool ends each stage.
STAGES = {
    11: ((64,), (128,), (256, 256), (512, 512), (512, 512)),
    16: ((64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3),
}


class VGG(nn.Module):
    """VGG; a call returns `(logits, features)`.

    Parameters are `conv_i`, `bn_i` and `fc_i`.

    Attributes:
      stages: channels of each convolution, one tuple per stage.
      num_classes: number of logits.
      use_batch_norm: whether batch norm comes between each convolution and its ReLU.
      width: multiplier of the convolutions' channels, rounded, at least 1.
      classifier_width: units of the two hidden fully connected layers.
      dropout_rate: rate of both dropouts, in [0, 1).
      init_factor: scale of the He-normal standard deviation, for every kernel.
      batch_norm_momentum: share of the running statistics kept at each step.
      batch_norm_groups: number of parts of a training batch with separate statistics.
      dtype: compute dtype; parameters and statistics stay float32.
    """

    # Each model lists its fields: they are the options that `models.create` documents.
    stages: tuple[tuple[int, ...], ...]
    num_classes: int
    use_batch_norm: bool = False
    width: float | int = 1.0
    classifier_width: int = 512
    dropout_rate: float = 0.5
    init_factor: float = 1.0
    batch_norm_momentum: float = 0.9
    batch_norm_groups: int = 1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool):
        layers.check_size(images, len(self.stages), "VGG")
        record = layers.Record()
        x = self._convolutions(images.astype(self.dtype), record, train)
        logits = self._classifier(x.reshape(x.shape[0], -1), record, train)
        return logits, record.outputs

    def _convolutions(self, x, record, train):
        index = 0
        for stage in self.stages:
            for channels in stage:
                x = layers.convolution(
                    layers.scaled(channels, self.width),
                    3,
                    kernel_init=layers.he_normal(self.init_factor),
                    dtype=self.dtype,
                    name=f"conv_{index:02d}",
                )(x)
                record("conv", x)
                if self.use_batch_norm:
                    x = BatchNorm(
                        use_running_average=not train,
                        momentum=self.batch_norm_momentum,
                        groups=self.batch_norm_groups,
                        dtype=self.dtype,
                        name=f"bn_{index:02d}",
                    )(x)
                    record("bn", x)
                x = record("relu", nn.relu(x))
                index += 1
            x = record("pool", pool.max_pool_2x2(x))
        return x

    def _classifier(self, x, record, train):
        sizes = (self.classifier_width, self.classifier_width, self.num_classes)
        for index, size in enumerate(sizes):
            last = index == len(sizes) - 1
            if not last:
                dropout = nn.Dropout(self.dropout_rate, deterministic=not train)
                x = record("dropout", dropout(x))
            x = nn.Dense(
                size,
                kernel_init=layers.he_normal(self.init_factor),
                dtype=self.dtype,
                name=f"fc_{index}",
            )(x)
            record("fc", x)
            if not last:
                x = record("relu", nn.relu(x))
        return x
