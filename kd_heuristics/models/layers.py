"""The layers our models share: He-normal convolutions and a record of outputs."""

import functools
from typing import Any

import flax.linen as nn

from kd_heuristics.models import conv


def he_normal(factor: float = 1.0) -> nn.initializers.Initializer:
    """Normal with mean 0 and standard deviation `factor * sqrt(2 / fan_in)`.

    Source: He et al. 2015, eq. 10; `factor` is mode E of Gotmare et al. 2019, section
    2.1 (3 there). The normal is not truncated.
    """
    return nn.initializers.variance_scaling(2.0 * factor**2, "fan_in", "normal")


def convolution(features: int, kernel_size: int, **options: Any) -> nn.Conv:
    """`flax.linen.Conv` with a square kernel, lowered by platform (`models.conv`)."""
    return nn.Conv(
        features,
        (kernel_size, kernel_size),
        conv_general_dilated=conv.conv_general_dilated,
        **options,
    )


class Record:
    """Collects each layer's output under "00_conv", "01_relu", ... in call order.

    >>> record = Record()
    >>> int(record("relu", 3)), record.outputs
    (3, {'00_relu': 3})
    """

    def __init__(self):
        self.outputs: dict[str, Any] = {}

    def __call__(self, kind: str, value: Any) -> Any:
        self.outputs[f"{len(self.outputs):02d}_{kind}"] = value
        return value


batch_norm = functools.partial(nn.BatchNorm, epsilon=1e-5, use_fast_variance=False)
