"""Config and presets of the warmup study; `cifar10` carries the paper's numbers."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np

from experiments.common import config as common
from experiments.common import fields
from kd_heuristics import schedules
from kd_heuristics.runs.claims import LOOKS
from kd_heuristics.runtime import nearest

STAIRS = 20  # with fewer epochs of warmup the rate is set every step, not every epoch
NEVER = 2**30  # a step that no run reaches


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arm:
    """What an arm does differently from large batches at their full rate.

    Attributes:
      words: for figures.
      small: small batches at their own rate.
      low_rate: the small batches' rate with large batches.
      warmup: which layers' rate is warmed up.
      freeze: which layers stay as they are for as long as a warmup takes.
      clip: the gradient's global norm is clipped.
    """

    words: str
    small: bool = False
    low_rate: bool = False
    warmup: Literal["none", "all", "fc"] = "none"
    freeze: Literal["none", "fc", "conv", "random"] = "none"
    clip: bool = False


# The paper's four, then the controls that it lacks.
ARMS: dict[str, Arm] = {
    "small": Arm(words="small batch", small=True),
    "large": Arm(words="large batch"),
    "warmup": Arm(words="large batch, warmup", warmup="all"),
    "freeze_fc": Arm(words="large batch, FC frozen", freeze="fc"),
    "freeze_conv": Arm(words="large batch, convolutions frozen", freeze="conv"),
    "freeze_random": Arm(
        words="large batch, as much frozen elsewhere", freeze="random"
    ),
    "low_rate": Arm(words="large batch, low rate", low_rate=True),
    "clip": Arm(words="large batch, gradient clipped", clip=True),
    "warmup_fc": Arm(words="large batch, warmup of FC alone", warmup="fc"),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(common.WithVgg):
    """A preset of this study. Epochs are passes over the training set."""

    held_out: ClassVar[tuple[str, ...]] = ("map_examples",)
    map_examples: fields.Count = 10_000
    """Training images, un-augmented, that similarities are measured on."""
    map_layers: Literal["all", "kernels"] = "all"
    """Layers in the maps: all, or convolutions and dense layers only."""
    model: str = "vgg11_bn"
    # Divergence is what the study is about.
    on_nonfinite: Literal["raise", "skip", "record"] = "record"
    batch_size: fields.Count = 5000
    """Examples of a training step with large batches."""
    micro_batches: fields.Count = 1
    """Parts of a large batch that batch norm sees one by one; 1: it sees all."""
    rate: fields.Positive = 2.5
    """Learning rate with large batches."""
    small_batch_size: fields.Count = 100
    """Examples of a training step with small batches."""
    small_rate: fields.Positive = 0.05
    """Learning rate with small batches."""
    epochs: fields.Count = 300
    """Length of training in epochs.
    To extend a finished run, also give its warmup_epochs and drops_epochs."""
    warmup_epochs: fields.Length = 1 / 15
    """Epochs of the warmup. A float is a share of `epochs`."""
    init_rate: fields.NotNegative = 0.0005
    """Learning rate at which the warmup starts."""
    drops_epochs: fields.Drops = (0.2, 0.4, 0.5)
    """Epochs where the rate drops. Floats are shares of `epochs`."""
    drop_factor: fields.Share = 0.1
    """Factor of the rate at each drop."""
    clip_norm: fields.Positive = 1.0
    """Largest global norm of the gradient, in the arm "clip" only."""
    measure: Literal["google_cca", "cca", "svcca", "cka", "debiased_cka"] = "google_cca"
    """Measure of similarity."""
    arms: tuple[str, ...] = tuple(ARMS)
    """Which arms run, of `ARMS`."""
    smallest_effect: fields.Positive = 0.02
    # Not of the paper: the rival explanation of warmup, see `curvature`.
    sharpness_steps: fields.Drops = ()
    """Steps done, at least 1, after which the Hessian's largest eigenvalue is measured.
    Floats are shares of the warmup: 1.0 is its last step, before which nothing thaws.
    Claims read the steps of the warmup alone."""
    sharpness_examples: fields.Count = 200
    """Training images, un-augmented and in one batch, of the loss that it is of."""
    sharpness_products: fields.Count = 20
    """Products of the Hessian and a vector for each eigenvalue."""

    def check(self):
        super().check()
        if not self.arms:
            raise ValueError(f"arms must name at least one of {', '.join(ARMS)}")
        for arm in self.arms:
            nearest.choose(arm, tuple(ARMS), "arm")
        if not 0 < self.warmup_epochs < self.epochs:
            raise ValueError(
                f"warmup_epochs must be below epochs, got {self.warmup_epochs} of "
                f"{self.epochs}; give a share such as 0.25, or more epochs"
            )
        if self.sharpness_steps and self.sharpness_examples > self._examples():
            raise ValueError(
                f"sharpness_examples must be at most the {self._examples():,} training "
                f"images, got {self.sharpness_examples}"
            )
        last = self.epochs * self.steps_per_epoch() - 1
        for step in self.sharpness_steps:
            if not 1 <= step <= last:
                raise ValueError(
                    f"sharpness_steps must be within 1..{last}, got {step}; give "
                    "shares of the warmup such as 0.5"
                )

    def derived(self) -> dict[str, Any]:
        """Warmup and drops in epochs."""
        (warmup,) = fields.within((self.warmup_epochs,), self.epochs)
        drops = fields.drops("drops_epochs", self.drops_epochs, self.epochs)
        found = {"warmup_epochs": warmup, "drops_epochs": drops}
        if self.sharpness_steps:
            last = warmup * self.steps_per_epoch() - 1
            steps = fields.within(self.sharpness_steps, max(1, last))
            found["sharpness_steps"] = tuple(dict.fromkeys(steps))
        return found

    def steps_per_epoch(self) -> int:
        """Steps of large batches in an epoch of the named set."""
        return self._examples() // self.batch_size

    @property
    def sharpness_early(self) -> list[int]:
        """Places in `sharpness_steps` of those within the warmup, whose end thaws."""
        config = self.resolved
        length = config.warmup_epochs * config.steps_per_epoch()
        return [i for i, step in enumerate(config.sharpness_steps) if step < length]

    @property
    def eval_examples(self) -> int:
        """Of the sets along paths, which this study does not have."""
        return 1

    def rates(self, name: str, steps_per_epoch: int) -> dict[str, np.ndarray]:
        """Learning rates of an arm a step: {"fc": [steps], "rest": [steps]}."""
        arm, config = ARMS[name], self.resolved
        peak = self.small_rate if arm.small or arm.low_rate else self.rate
        drops = schedules.step_decay(peak, config.drops_epochs, self.drop_factor)
        warm = schedules.warmup(
            drops, config.warmup_epochs, self.init_rate, inclusive=True
        )
        count = np.arange(self.epochs * steps_per_epoch)
        table = {
            kind: np.array(schedules.per_epoch(by_epoch, steps_per_epoch)(count))
            for kind, by_epoch in (("warm", warm), ("plain", drops))
        }
        if config.warmup_epochs < STAIRS:
            steps = config.warmup_epochs * steps_per_epoch
            target = table["plain"][steps]
            done = (count[:steps] + 1) / steps
            table["warm"][:steps] = self.init_rate + done * (target - self.init_rate)
        return {
            "fc": table["plain" if arm.warmup == "none" else "warm"],
            "rest": table["warm" if arm.warmup == "all" else "plain"],
        }


# How batch, rates and the length of the warmup were chosen: docs/designs.md.
_SMALL = Config(
    dataset="digits_photo",
    train_examples=4000,
    map_examples=1600,
    map_layers="kernels",
    width=0.125,
    classifier_width=256,
    dropout_rate=0.0,
    decayed="kernels",
    batch_size=200,
    rate=0.2,
    init_rate=0.0,
    small_batch_size=40,
    small_rate=0.02,
    epochs=16,
    warmup_epochs=1 / 2,
    drops_epochs=(0.7, 0.85),
    arms=("small", "large", "warmup", "freeze_fc", "freeze_random", "clip"),
    eval_batch_size=400,
)
PAPER = Config()
PRESETS: Mapping[str, Config] = {
    "smoke": dataclasses.replace(
        _SMALL,
        seeds=1,
        train_examples=160,
        map_examples=160,
        map_layers="all",
        model="shallow",  # compiles in a third of the time
        width=0.05,
        classifier_width=16,
        batch_size=80,
        small_batch_size=40,
        init_rate=0.0005,
        eval_batch_size=200,
        arms=tuple(ARMS),
        epochs=3,
        warmup_epochs=1 / 3,
        drops_epochs=(2 / 3,),
        sharpness_steps=(1.0,),
        sharpness_examples=40,
        sharpness_products=5,
    ),
    "demo": dataclasses.replace(
        _SMALL,
        seeds=4,
        looks=(4,),
        train_examples=2000,
        map_examples=800,
        epochs=6,
        warmup_epochs=2 / 3,
        drops_epochs=(5 / 6,),
        # By the same sweep: 14 and 25 % without warmup, 51 and 80 % with it.
        batch_size=100,
        rate=0.15,
        arms=("large", "warmup", "freeze_fc"),
    ),
    # Seeds 0 to 3 were seen under an earlier rule, see docs/designs.md.
    "digits": dataclasses.replace(_SMALL, seeds="auto", looks=LOOKS, first_seed=12),
    "fashion": dataclasses.replace(
        _SMALL,
        **common.FASHION | {"test_examples": 4000},
        batch_size=400,
        rate=0.1,
        small_batch_size=80,
        warmup_epochs=1 / 4,
    ),
    "fashion_full": dataclasses.replace(PAPER, dataset="fashion_mnist", image_size=32),
    "lenses": dataclasses.replace(
        _SMALL,
        **common.family(4),
        sharpness_steps=(1 / 160, 1 / 40, 1 / 8, 1 / 2, 1.0),
    ),
    "cifar10": PAPER,
    "cifar10_resnet18": dataclasses.replace(PAPER, model="resnet18", rate=5.0),
    "cifar10_resnet32": dataclasses.replace(PAPER, model="resnet32", rate=5.0),
}
