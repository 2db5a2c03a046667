"""What the configs of all studies have."""

import dataclasses
from typing import Any, Literal

from experiments.common import fields
from kd_heuristics import data, models
from kd_heuristics.runtime import nearest


@dataclasses.dataclass(frozen=True, kw_only=True)
class Common:
    """Seeds, data and how networks are trained, whatever they are trained for.

    Attributes:
      seeds: number of seeds; every number is reported with its spread over them.
      first_seed: the seeds are first_seed, first_seed + 1, ...
      dataset: a set of `data.names()`.
      test_split: what test numbers are measured on; validation, to choose settings.
      train_examples: training images used, the first ones; None: all.
      dtype: of the forward and backward pass; parameters and losses stay float32.
      devices: number of devices that each batch is split over.
      batch_norm: over which examples batch norm averages: the whole batch, or each
        device's part.
      on_nonfinite: on a NaN or infinity: stop, skip that update, or record it and
        continue.
      members_at_once: networks of a population trained together; None: by the backend.
    """

    seeds: int = 3
    first_seed: int = 0
    dataset: str = "cifar10"
    test_split: Literal["test", "validation"] = "test"
    train_examples: int | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"
    devices: int = 1
    batch_norm: Literal["global", "device"] = "global"
    on_nonfinite: Literal["raise", "skip", "record"] = "raise"
    members_at_once: int | None = None

    def __post_init__(self):
        fields.check(self)
        nearest.choose(self.dataset, data.names(), "dataset")

    @property
    def how(self) -> dict[str, Any]:
        """What `training.population` takes of the config."""
        return {
            "at_once": self.members_at_once,
            "batch_norm": self.batch_norm,
            "on_nonfinite": self.on_nonfinite,
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class WithVgg(Common):
    """A study whose networks are VGGs, or whatever else `models` has.

    Attributes:
      model: network, of `models.names()`.
      width: multiplies the number of channels.
      classifier_width: units of the hidden classifier layers; not of a ResNet.
      dropout_rate: of the classifier; of a VGG only.
    """

    model: str = "vgg16"
    width: float = 1.0
    # Open in the papers; Garipov et al. 2018 have 512.
    classifier_width: int = 512
    dropout_rate: float = 0.5

    def __post_init__(self):
        super().__post_init__()
        models.check(self.model, 10, **self.model_options)

    @property
    def model_options(self) -> dict[str, Any]:
        """What `models.create` takes for the network, beside its name."""
        return self.options(self.model, self.width)

    def options(self, name: str, width: float) -> dict[str, Any]:
        """What it takes for a network of that name and width."""
        options: dict[str, Any] = {"width": width, "dtype": self.dtype}
        if not name.startswith("resnet"):
            options["classifier_width"] = self.classifier_width
        if name.startswith("vgg"):
            options["dropout_rate"] = self.dropout_rate
        return options
