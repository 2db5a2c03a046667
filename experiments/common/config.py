"""What the configs of all studies have."""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import jax

from experiments.common import fields
from kd_heuristics import data, models, training
from kd_heuristics.runs import verdicts
from kd_heuristics.runs.claims import LOOKS

# What the presets `fashion` share. A pass over all 10,000 test images after each epoch
# would take a third of a study's time.
FASHION: dict[str, Any] = {
    "seeds": "auto",
    "looks": LOOKS,
    "dataset": "fashion_mnist_holdout",
    "image_size": 32,
    "train_examples": 8000,
    "test_examples": 2000,
}


def family(seeds: int) -> dict[str, Any]:
    """Seeds of a family of claims of its own, from 1,000 on, judged at one look."""
    return {"seeds": seeds, "looks": (seeds,), "first_seed": 1000}


def every_leaf(params: Any) -> Any:
    """A tree of the form of `params` that is true everywhere."""
    return jax.tree.map(lambda _: True, params)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Common:
    """Seeds, data and how networks are trained, whatever they are trained for.

    Presets repeat fields on purpose: each states its whole design in one place.
    """

    held_out: ClassVar[tuple[str, ...]] = ("eval_examples", "held_examples")
    """Fields that are numbers of held-out images, too. `test_examples` always is."""

    seeds: fields.Seeds = 3
    """Number of seeds: one of `looks`, fewer for a preview, or more than the last.
    "auto" runs to the first look that decides every main claim."""
    looks: fields.Looks = (3,)
    """Numbers of seeds at which the claims are judged, declared before the run."""
    first_seed: fields.Natural = 0
    """The seeds are first_seed, first_seed + 1, ..."""
    dataset: str = "cifar10"
    """Name of the dataset, one of `data.names()`, or your own images: a path to an .npz
    or to a folder of class folders, or tfds:NAME[:CONFIG]."""
    test_split: Literal["test", "validation"] = "test"
    """Images that test numbers are measured on; validation, to choose settings."""
    train_examples: fields.Count | None = None
    """Training images used, the first ones. `None` uses all."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the forward and backward pass. Parameters and losses stay float32."""
    devices: fields.Count = 1
    """Number of devices that each batch is split over."""
    batch_norm: Literal["global", "device"] = "global"
    """Examples that batch norm averages over: the whole batch, or each device's."""
    on_nonfinite: Literal["raise", "skip", "record"] = "raise"
    """On a NaN or infinity: stop, skip that update, or record it and continue."""
    batch_size: fields.Count = 100
    """Examples of a training step."""
    eval_batch_size: fields.Count = 500
    """Examples at a time in evaluation."""
    smallest_effect: fields.Positive = 0.005
    """Smallest difference that counts, of accuracy and of similarity."""
    members_at_once: fields.Count | None = None
    """Networks of a population trained together. `None` chooses by the backend."""

    def __post_init__(self):
        fields.check(self)
        verdicts.check_looks(self.looks)
        if self.resolved is self:  # else the resolved one has checked itself
            self.check()

    def check(self) -> None:
        """Raises ValueError if fields are at odds; only of a resolved config."""
        examples = self._examples()
        parts = self.devices if self.batch_norm == "device" else 1
        for name, size in vars(self).items():
            if not name.endswith("batch_size") or name == "eval_batch_size":
                continue
            if size > examples:
                what = "the training images of " + self.dataset
                if self.train_examples is not None:
                    what = "train_examples"
                raise ValueError(
                    f"{name} must be at most {what}, {examples}: a "
                    f"smaller last batch is dropped, so none would be left; got {size}"
                )
            if size % parts:
                raise ValueError(
                    f"{name} must be a multiple of devices, {parts}, with batch_norm="
                    f"'device', which has parts of one size; got {size}"
                )

    def _examples(self) -> int:
        """Number of training images; ValueError where the set has too few of any."""
        size = getattr(self, "image_size", None)
        found = data.describe(self.dataset, size).examples
        if self.test_split not in found:
            raise ValueError(
                f"test_split must be a split of {self.dataset}, {' or '.join(found)}, "
                f"got {self.test_split!r}"
            )
        both = ("train", self.test_split)
        splits: dict[str, tuple[str, ...]] = dict.fromkeys(self.held_out, both)
        splits["test_examples"] = (self.test_split,)
        wrong = [
            (name, split, count)
            for name, count in vars(self).items()
            if name.endswith("_examples") and count is not None
            for split in splits.get(name, ("train",))
            if count > found[split]
        ]
        if wrong:
            words = [
                f"{name} must be at most its {found[split]:,} {split} images, got "
                f"{count}"
                for name, split, count in wrong
            ]
            most = {
                name: min(found[split] for split in splits.get(name, ("train",)))
                for name, *_ in wrong
            }
            given = [f"--{k.replace('_', '-')} {v}" for k, v in most.items()]
            raise ValueError(
                f"{self.dataset} is too small: {'; '.join(words)}; give "
                + " ".join(given)
            )
        return self.train_examples or found["train"]

    def derived(self) -> dict[str, Any]:
        """Values of the fields that follow from others."""
        return {"seeds": self.looks[-1]} if self.seeds == "auto" else {}

    @property
    def resolved(self) -> Any:
        """The config with the fields that follow from others; what a study sees."""
        return fields.resolved(self)

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

    image_size: fields.Count | None = None
    """Pixels a side. `None` keeps the dataset's own size."""
    test_examples: fields.Count | None = None
    """Images of the test set that accuracies are measured on. `None` uses all."""
    model: str = "vgg16"
    """Name of the network, one of `models.names()`, or your own: nets.py:make."""
    width: fields.Positive = 1.0
    """Factor of the number of channels."""
    # Open in the papers; Garipov et al. 2018 have 512.
    classifier_width: fields.Count = 512
    """Units of the hidden classifier layers. Ignored by a ResNet."""
    dropout_rate: fields.Fraction = 0.5
    """Dropout rate of the classifier, of a VGG only."""
    momentum: fields.Fraction = 0.9
    """Momentum of SGD."""
    weight_decay: fields.NotNegative = 5e-4
    """L2 coefficient on the parameters that are decayed."""
    # Also biases and batch norm, as in the code of Gotmare et al. 2019's first author.
    decayed: Literal["all", "kernels"] = "all"
    """Parameters that weight decay acts on: all, or kernels only."""
    clip_norm: fields.Positive | None = None
    """Largest global norm of the gradient. `None` disables clipping."""

    def check(self) -> None:
        super().check()
        models.check(self.model, 10, **self.model_options)

    @property
    def decay_mask(self) -> Callable[[Any], Any]:
        """Selects the leaves that weight decay acts on, as optax takes it."""
        return training.kernels if self.decayed == "kernels" else every_leaf

    @property
    def model_options(self) -> dict[str, Any]:
        """What `models.create` takes for the network, beside its name."""
        return self.options(self.model, self.width)

    def options(self, name: str, width: float) -> dict[str, Any]:
        """What it takes for a network of that name and width.

        A user's function gets what its signature takes.
        """
        options = {
            "width": width,
            "dtype": self.dtype,
            "classifier_width": self.classifier_width,
            "dropout_rate": self.dropout_rate,
        }
        return models.accepted(name, options)
