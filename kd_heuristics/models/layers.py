"""The layers our models share: He-normal convolutions and a record of outputs."""

from typing import Any

import flax.linen as nn
import jax

from kd_heuristics.models import conv


def he_normal(factor: float = 1.0) -> nn.initializers.Initializer:
    """Normal with mean 0 and standard deviation `factor * sqrt(2 / fan_in)`.

    Source: He et al. 2015, eq. 10; `factor` is mode E of Gotmare et al. 2019, section
    2.1 (3 there). The normal is not truncated.
    """
    return nn.initializers.variance_scaling(2.0 * factor**2, "fan_in", "normal")


def convolution(features: int, kernel_size: int, **options: Any) -> nn.Conv:
    """`flax.linen.Conv` with a square odd kernel, lowered by platform (`models.conv`).

    Padded by (kernel_size - 1) / 2 zeros on every side: as "SAME" at stride 1; at
    stride 2 on an even map "SAME" would pad one side only, and the windows would be
    centred on the odd pixels, where neither a strided 1x1 kernel nor the checkpoints
    of other frameworks look.
    """
    return nn.Conv(
        features,
        (kernel_size, kernel_size),
        padding=(kernel_size - 1) // 2,
        conv_general_dilated=conv.conv_general_dilated,
        **options,
    )


def scaled(channels: int, width: float | int) -> int:
    """`channels * width`, rounded, at least 1.

    >>> scaled(64, 0.25), scaled(64, 0.001)
    (16, 1)
    """
    return max(1, round(channels * width))


def check_size(images: jax.Array, halvings: int, model: str) -> None:
    """Raises ValueError where images [batch, h, w, c] cannot be halved so often."""
    smallest = 2**halvings
    height, width = images.shape[1:3]
    if min(height, width) < smallest:
        raise ValueError(
            f"{model} halves its maps {halvings} times and needs images of at least "
            f"{smallest}x{smallest}, got {height}x{width}; load the set with "
            f"size={smallest}"
        )


class Record:
    """Collects each layer's output, in call order.

    The outputs are named "00_conv", "01_relu", ..., with three digits where there are
    more than a hundred: under jit, which sorts names, the order stays.

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
        digits = max(2, len(str(len(self._outputs) - 1)))
        return {
            f"{index:0{digits}d}_{kind}": value
            for index, (kind, value) in enumerate(self._outputs)
        }
