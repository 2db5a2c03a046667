"""Defines the shallow student of Gotmare et al. 2019, section 5.

It is [conv maxpool relu] x 2, fc relu, fc, fc. The pool comes before the ReLU, and no
ReLU comes between the last two layers. The paper gives neither kernel size nor widths.
We use 5x5 kernels, 64 channels and 512 units; a study states what it sets.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from kd_heuristics.models import layers, pool

_CHANNELS = (64, 64)
_KERNEL_SIZE = 5


class Shallow(nn.Module):
    """Shallow student; a call returns `(logits, features)`.

    Parameters are `conv_i` and `fc_i`.

    Attributes:
      num_classes: number of logits.
      width: multiplier of the convolutions' channels, rounded, at least 1.
      classifier_width: units of the two hidden fully connected layers.
      init_factor: scale of the He-normal standard deviation, for every kernel.
      dtype: compute dtype; parameters stay float32.
    """

    num_classes: int
    width: float | int = 1.0
    classifier_width: int = 512
    init_factor: float = 1.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool):
        del train  # no dropout or batch norm
        layers.check_size(images, len(_CHANNELS), "the shallow student")
        kernel_init = layers.he_normal(self.init_factor)
        record = layers.Record()
        x = images
        for index, channels in enumerate(_CHANNELS):
            x = layers.convolution(
                layers.scaled(channels, self.width),
                _KERNEL_SIZE,
                kernel_init=kernel_init,
                dtype=self.dtype,
                name=f"conv_{index:02d}",
            )(x)
            x = record("pool", pool.max_pool_2x2(record("conv", x)))
            x = record("relu", nn.relu(x))
        x = x.reshape(x.shape[0], -1)
        sizes = (self.classifier_width, self.classifier_width, self.num_classes)
        for index, size in enumerate(sizes):
            x = nn.Dense(
                size, kernel_init=kernel_init, dtype=self.dtype, name=f"fc_{index}"
            )(x)
            record("fc", x)
            if index == 0:
                x = record("relu", nn.relu(x))
        return x, record.outputs
