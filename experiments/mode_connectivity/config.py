"""Presets of the study of mode connectivity; `cifar10` has the paper's numbers."""

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from experiments.common import config as common
from experiments.common import fields, paths
from kd_heuristics import schedules
from kd_heuristics.runs.claims import LOOKS
from kd_heuristics.runtime import nearest

Group = Literal["sgd", "large", "adam", "plain"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mode:
    """The one thing in which a mode's training differs from that of mode G.

    Attributes:
      words: for figures.
      group: what is trained in one program: "sgd" as G, in "large" batches, by "adam",
        or on "plain" images, without augmentation.
      linear: the rate falls on a line.
      low_decay: of the weights.
      wide_start: a wider initialisation.
    """

    words: str
    group: Group = "sgd"
    linear: bool = False
    low_decay: bool = False
    wide_start: bool = False


MODES: dict[str, Mode] = {
    "G": Mode(words="reference"),
    "A": Mode(words="large batch", group="large"),
    "B": Mode(words="Adam", group="adam"),
    "C": Mode(words="linear decay of the rate", linear=True),
    "D": Mode(words="small weight decay", low_decay=True),
    "E": Mode(words="wide initialisation", wide_start=True),
    "F": Mode(words="no augmentation", group="plain"),
}
# How the curves between two modes are made: "decayed" is the chain with weight decay on
# its bend.
KINDS = {"chain": "chain", "decayed": "chain, decay on the bend", "bezier": "Bezier"}

# Open in the paper. Its figures show the loss fall between curve epochs 60 and 80 and
# not before: one drop, at 60. The rate, no momentum and no decay are those of its
# author's later code; a bend without decay also fits the loss that grows there.
_PAPER_CURVE = paths.Chain(epochs=80, rate=0.1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(common.WithVgg):
    """A preset of this study. Epochs are passes over the training set."""

    eval_examples: fields.Count | None = None
    """Images of each set evaluated along the curves. `None` uses all."""
    # Open: the paper's train metrics look as if taken on augmented images.
    train_metrics: Literal["plain", "augmented"] = "plain"
    """Images that train metrics are taken on."""
    modes: tuple[str, ...] = tuple(MODES)
    """Which modes are trained, of `MODES`."""
    # Open: whether the modes share their start. Independent ones are the harder case.
    same_start: bool = False
    """Whether the modes start from the same parameters."""
    rate: fields.Positive = 0.05
    """Learning rate at the start."""
    drops_epochs: fields.Drops = (0.3, 0.6, 0.8)
    """Epochs where the rate drops. Floats are shares of `epochs`."""
    drop_factor: fields.Share = 0.2
    """Factor of the rate at each drop."""
    epochs: fields.Count = 200
    """Length of training in epochs."""
    large_batch_size: fields.Count = 4000
    """Examples of a training step of mode A."""
    large_batch_rate: fields.Positive = 0.05  # the paper names one change, the batch
    """Learning rate of mode A."""
    # Open: Adam's usual rate, with G's drops. The decay is coupled, an L2 term.
    adam_rate: fields.Positive = 1e-3
    """Learning rate of mode B, by Adam."""
    linear_end_rate: fields.NotNegative = 0.0  # open
    """Learning rate at the end of mode C, which falls on a line."""
    low_decay: fields.NotNegative = 5e-6
    """L2 coefficient of mode D."""
    # Open: 3 if the paper's "3 sqrt(2/n)" is one, root
    # 3 if it is a variance. With either, a VGG-16 diverges at the rate of G within
    # two steps (seen at an eighth of the width), so E's gradient is clipped.
    init_factor: fields.Positive = 3.0
    """Factor of the initialisation's standard deviation in mode E."""
    wide_clip_norm: fields.Positive | None = 1.0
    """Largest global norm of the gradient in mode E. `None` disables clipping."""
    curve: paths.Chain = _PAPER_CURVE
    """How the curves are fitted."""
    kinds: tuple[str, ...] = tuple(KINDS)
    """Which kinds of curve are fitted, of `KINDS`; first the chain."""
    bend_decay: fields.NotNegative = 5e-4
    """L2 coefficient on the bend, for the kind "decayed"."""
    curve_epochs: fields.Drops = (0.25, 0.5, 0.75, 1.0)
    """Epochs of the fit after which the curves are evaluated, up to its last one.
    Floats are shares of `curve.epochs`."""
    intervals: fields.Count = 29  # the paper shows k = 1..28
    """The curves are evaluated at t = k / intervals."""
    # Not of the paper: the rival explanation of git re-basin, see `alignments`.
    aligned: tuple[Literal["weights", "activations"], ...] = ()
    """Ways of putting the other mode's units in G's order, after which the segments are
    evaluated once more: by weights, or by activations on eval_examples. Empty: none."""
    perplexity: fields.Positive = 5.0  # open
    """Perplexity of t-SNE, below the number of points."""
    as_good_as: fields.Positive = 0.03
    """A curve's worst point counts as good down to this share below its worse end."""
    smallest_effect: fields.Positive = 0.02
    """Smallest difference of curves that counts, in accuracy and in nats."""

    def check(self):
        super().check()
        for mode in self.modes:
            nearest.choose(mode, tuple(MODES), "mode")
        if self.modes[:1] != ("G",) or len({*self.modes}) < max(2, len(self.modes)):
            raise ValueError(
                "modes must be G and then others, each once, since every curve starts "
                f"at G; got {self.modes}"
            )
        for kind in self.kinds:
            nearest.choose(kind, tuple(KINDS), "kind of curve")
        if self.kinds[:1] != ("chain",) or len({*self.kinds}) < len(self.kinds):
            raise ValueError(
                "kinds must be chain and then others, each once, since the main claims "
                f"are about chains; got {self.kinds}"
            )
        if len({*self.aligned}) < len(self.aligned):
            raise ValueError(f"aligned must name each way once, got {self.aligned}")
        _check_curve_epochs(self.curve_epochs, self.curve.epochs)
        points = 2 * len(self.modes) - 1
        if not self.perplexity < points:
            raise ValueError(
                f"perplexity must be between 0 and the number of points, {points} (the "
                f"modes and the bends), got {self.perplexity}"
            )

    def derived(self) -> dict[str, Any]:
        """Drops and evaluations in epochs."""
        drops = fields.drops("drops_epochs", self.drops_epochs, self.epochs)
        evaluated = fields.within(self.curve_epochs, self.curve.epochs)
        if evaluated != self.curve_epochs:  # shares of a short fit fall together
            evaluated = tuple(dict.fromkeys(evaluated))
        return {"drops_epochs": drops, "curve_epochs": evaluated}

    @property
    def pairs(self) -> tuple[str, ...]:
        """The curves, "GA" for the one from G to A."""
        return tuple(f"G{mode}" for mode in self.modes[1:])

    @property
    def groups(self) -> tuple[Group, ...]:
        """What is trained together, in the order of the modes."""
        return tuple(dict.fromkeys(MODES[mode].group for mode in self.modes))

    def rates(self, name: str, steps_per_epoch: int) -> np.ndarray:
        """Learning rates of a mode, [steps]."""
        mode = MODES[name]
        by_group = {"large": self.large_batch_rate, "adam": self.adam_rate}
        peak = by_group.get(mode.group, self.rate)
        steps = self.epochs * steps_per_epoch
        if mode.linear:
            schedule = schedules.linear_decay(peak, steps, self.linear_end_rate)
        else:
            drops = [epoch * steps_per_epoch for epoch in self.resolved.drops_epochs]
            schedule = schedules.step_decay(peak, drops, self.drop_factor)
        return np.asarray(schedule(np.arange(steps)))

    def decay(self, name: str) -> float:
        """Weight decay of a mode."""
        return self.low_decay if MODES[name].low_decay else self.weight_decay

    def largest_norm(self, name: str) -> float:
        """To which a mode's gradient is clipped; infinite where it is not."""
        norm = self.wide_clip_norm if MODES[name].wide_start else self.clip_norm
        return np.inf if norm is None else norm


def _check_curve_epochs(epochs, length):
    ascending = all(a < b for a, b in itertools.pairwise(epochs))
    if not epochs or not ascending or not 1 <= epochs[0] <= epochs[-1] == length:
        raise ValueError(
            "curve_epochs must ascend from at least 1 to the curve's last epoch, "
            f"{length}, got {epochs}; give shares such as 0.5 and 1.0"
        )


_CURVE = paths.Chain(
    epochs=32,
    rate=0.02,
    schedule="cosine",
    drops_epochs=(),
    momentum=0.9,
    clip_norm=5.0,
)
_SMALL = Config(
    dataset="digits_photo",
    train_examples=3200,
    eval_examples=1600,
    model="vgg11",
    width=0.125,
    classifier_width=256,
    dropout_rate=0.0,
    decayed="kernels",
    modes=("G", "A", "C", "F"),
    batch_size=40,
    rate=0.02,
    drops_epochs=(0.6, 0.75, 0.9),
    epochs=20,
    clip_norm=1.0,
    large_batch_size=120,
    large_batch_rate=0.02,
    init_factor=1.5,
    curve=_CURVE,
    kinds=("chain",),
    curve_epochs=(0.25, 1.0),
    intervals=14,
    perplexity=3.0,
    as_good_as=0.02,
    eval_batch_size=400,
)
PRESETS: Mapping[str, Config] = {
    "smoke": dataclasses.replace(
        _SMALL,
        seeds=1,
        train_examples=128,
        eval_examples=64,
        model="shallow",  # compiles in a third of the time
        width=0.05,
        classifier_width=16,
        modes=("G", "A", "D", "E"),
        batch_size=32,
        large_batch_size=64,
        drops_epochs=(0.5,),
        epochs=2,
        curve=paths.Chain(epochs=2, rate=0.05, momentum=0.9, clip_norm=1.0),
        kinds=tuple(KINDS),
        curve_epochs=(0.5, 1.0),
        intervals=5,
        aligned=("weights",),
        as_good_as=0.03,
        eval_batch_size=64,
    ),
    "demo": dataclasses.replace(
        _SMALL,
        seeds=4,
        looks=(4,),
        train_examples=2000,
        eval_examples=800,
        model="shallow",
        width=0.25,
        classifier_width=64,
        epochs=10,
        curve=dataclasses.replace(_CURVE, epochs=8),
        curve_epochs=(0.5, 1.0),
    ),
    "digits": dataclasses.replace(_SMALL, seeds="auto", looks=LOOKS),
    "fashion": dataclasses.replace(
        _SMALL,
        **common.FASHION,
        batch_size=50,
        epochs=16,
        large_batch_size=150,
        curve=dataclasses.replace(_CURVE, epochs=30),
    ),
    "fashion_full": Config(dataset="fashion_mnist", image_size=32),
    "lenses": dataclasses.replace(
        _SMALL,
        **common.family(4),
        aligned=("weights", "activations"),
    ),
    "cifar10": Config(),
}
