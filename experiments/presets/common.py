"""What the configs of all studies have."""

import dataclasses
from typing import Any, Literal

from experiments import fields
from kd_heuristics import data, models, nearest


@dataclasses.dataclass(frozen=True, kw_only=True)
class Common:
    """Seeds, data and how networks are trained, whatever they are trained for."""

    seeds: int = 3
    first_seed: int = 0
    dataset: str = "cifar10"
    test_split: Literal["test", "validation"] = "test"
    train_examples: int | None = None  # the first so many; None: all
    dtype: Literal["float32", "bfloat16"] = "float32"  # of the forward and backward
    devices: int = 1  # each batch is split over so many
    batch_norm: Literal["global", "device"] = "global"  # over a batch, or its parts
    on_nonfinite: Literal["raise", "skip", "record"] = "raise"
    members_at_once: int | None = None  # of a population; None: by the backend

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
    """A study whose networks are VGGs, or whatever else `models` has."""

    model: str = "vgg16"
    width: float = 1.0
    # Not of a ResNet. Open in the papers; Garipov et al. 2018 have 512.
    classifier_width: int = 512
    dropout_rate: float = 0.5  # of a VGG

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
