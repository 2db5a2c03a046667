"""Provides layers that our models share: convolutions and a record of outputs."""

from collections.abc import Iterator, Sequence
from typing import Any

import flax.linen as nn
import jax

from kd_heuristics.models import conv
from kd_heuristics.runtime.errors import InputError


def he_normal(factor: float = 1.0) -> nn.initializers.Initializer:
    """Initialises normally with mean 0 and deviation `factor * sqrt(2 / fan_in)`.

    Source: He et al. 2015, eq. 10; `factor` is mode E of Gotmare et al. 2019, section
    2.1, which uses 3. The normal distribution is not truncated.
    """
    return nn.initializers.variance_scaling(2.0 * factor**2, "fan_in", "normal")


def convolution(features: int, kernel_size: int, **options: Any) -> nn.Conv:
    """Makes a `flax.linen.Conv` with a square odd kernel, lowered by `models.conv`.

    It pads (kernel_size - 1) / 2 zeros on every side, which equals "SAME" at stride 1.
    At stride 2 on an even map, "SAME" would centre the windows on odd pixels, unlike a
    strided 1x1 kernel and unlike the checkpoints of other frameworks.
    """
    return nn.Conv(
        features,
        (kernel_size, kernel_size),
        padding=(kernel_size - 1) // 2,
        conv_general_dilated=conv.conv_general_dilated,
        **options,
    )


def scaled(channels: int, width: float | int) -> int:
    """Returns `channels * width`, rounded, at least 1.

    >>> scaled(64, 0.25), scaled(64, 0.001)
    (16, 1)
    """
    return max(1, round(channels * width))


def residual_blocks(
    num_blocks: Sequence[int], channels: Sequence[int], width: float | int
) -> Iterator[tuple[int, int, str]]:
    """Yields channels, stride and name of each block, section by section.

    >>> [*residual_blocks((1, 2), (64, 128), 0.5)]
    [(32, 1, 'block_0_0'), (64, 2, 'block_1_0'), (64, 1, 'block_1_1')]
    """
    for section, (count, own) in enumerate(zip(num_blocks, channels, strict=True)):
        for index in range(count):
            stride = 2 if section > 0 and index == 0 else 1
            yield scaled(own, width), stride, f"block_{section}_{index}"


def check_size(images: jax.Array, halvings: int, model: str) -> None:
    """Raises InputError for images [batch, h, w, c] too small to halve that often."""
    smallest = 2**halvings
    height, width = images.shape[1:3]
    if min(height, width) < smallest:
        raise InputError(
            f"{model} halves its maps {halvings} times and needs images of at least "
            f"{smallest}x{smallest}, got {height}x{width}; load the set with "
            f"size={smallest}"
        )


class Record:
    """Collects each layer's output, in call order.

    Outputs are named "00_conv", "01_relu", ..., with three digits for more than a
    hundred. The names keep the order under jit, which sorts them.

    >>> record = Record()
    >>> int(record("relu", 3)), record.outputs
    (3, {'00_relu': 3})
    """

    def __init__(self):
        self._outputs: list[tuple[str, Any]] = []

    def __call__(self, kind: str, value: Any) -> Any:
        self._outputs.append((kind, value))
        return value

    @property
    def outputs(self) -> dict[str, Any]:
        """All recorded outputs by name, in call order."""
        digits = max(2, len(str(len(self._outputs) - 1)))
        return {
            f"{index:0{digits}d}_{kind}": value
            for index, (kind, value) in enumerate(self._outputs)
        }
