"""Arms and training lengths of the FunMatch study, and the paper's tables of both."""

import dataclasses
from typing import Literal

import numpy as np

from experiments.common import fields, paper


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arm:
    """Settings of an arm, which matches a teacher's predictions or learns labels.

    Attributes:
      words: name in figures.
      view: view of `data.views`: which pixels teacher and student see.
      mixup: p of Beta(p, p); `None` uses the view's own.
      labels: whether it learns labels instead of the teacher.
      optimizer: optimizer of the student.
      init: "scratch", or "pretrained" to start from weights trained on labels.
      family: architecture of the student.
      ensemble: whether to average the logits with a second teacher's, which sees the
        student's resolution.
      images: the set's own images, or others without their labels.
      full_size: whether the student sees the teacher's resolution.
      equal_forwards: whether stored targets are averaged over as many crops as there
        are epochs, so that the teacher runs as often as without stored targets.
    """

    words: str
    view: str = "mix"
    mixup: float | None = None
    labels: bool = False
    optimizer: Literal["adam", "sgd", "shampoo"] = "adam"
    init: Literal["scratch", "pretrained"] = "scratch"
    family: Literal["student", "mobilenet_gn", "mobilenet_bn"] = "student"
    ensemble: bool = False
    images: Literal["own", "others"] = "own"
    full_size: bool = False
    equal_forwards: bool = False


# First the variants of the paper's Figure 3, then arms with one change each.
ARMS: dict[str, Arm] = {
    "fix/rs": Arm(words="fixed teacher, whole image", view="fix/rs"),
    "fix/cc": Arm(words="fixed teacher, central crop", view="fix/cc"),
    "fix/ic_ens": Arm(words="fixed teacher, mean of many crops", view="fix/ic_ens"),
    "fix/ic_ens_equal": Arm(
        words="the same, as many crops as epochs",
        view="fix/ic_ens",
        equal_forwards=True,
    ),
    "ind/rc": Arm(words="independent mild crops", view="ind/rc"),
    "ind/ic": Arm(words="independent inception crops", view="ind/ic"),
    "ind/ic+mixup": Arm(words="independent crops, mixup", view="ind/ic+mixup"),
    "same/rc": Arm(words="same mild crop", view="same/rc"),
    "same/ic": Arm(words="same inception crop (consistent)", view="same/ic"),
    "mix": Arm(words="same crop, mixup (FunMatch)"),
    "full_size": Arm(words="student at the teacher's resolution", full_size=True),
    "shampoo": Arm(words="Shampoo", optimizer="shampoo"),
    "pretrained": Arm(words="pretrained student", init="pretrained"),
    "mobilenet_gn": Arm(words="MobileNetV3, group norm", family="mobilenet_gn"),
    "mobilenet_bn": Arm(words="MobileNetV3, batch norm", family="mobilenet_bn"),
    "ensemble": Arm(words="two teachers at two resolutions", ensemble=True),
    "others": Arm(words="other images", images="others"),
    "labels": Arm(words="labels, Adam", view="same/ic", labels=True),
    "labels+mixup": Arm(words="labels, Adam, mixup", labels=True),
    "labels_sgd": Arm(
        words="labels, SGD", view="same/ic", labels=True, optimizer="sgd"
    ),
    "labels_sgd+mixup": Arm(words="labels, SGD, mixup", labels=True, optimizer="sgd"),
}
MAIN = ("fix/cc", "ind/ic", "same/ic", "mix")
OTHERS = tuple(arm for arm in ARMS if arm not in MAIN)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """A training length with its hyperparameters: a row of table 4."""

    epochs: fields.Count
    """Passes over the training images."""
    rate: fields.Positive
    """Peak learning rate of Adam."""
    decay: fields.NotNegative
    """Weight decay of kernels, not multiplied by the rate."""
    temperature: fields.Positive
    """Temperature of the loss."""
    paper: fields.Finite | None = None
    """The paper's test accuracy of FunMatch's student, in [0, 1]."""

    def __post_init__(self):
        fields.check(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grid:
    """The paper's grid for every arm and length, 80 runs each."""

    rates: tuple[fields.Positive, ...] = (0.0003, 0.001, 0.003, 0.01)
    """Learning rates tried."""
    decays: tuple[fields.NotNegative, ...] = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3)
    """Weight decays tried."""
    temperatures: tuple[fields.Positive, ...] = (1.0, 2.0, 5.0, 10.0)
    """Temperatures tried."""

    def __post_init__(self):
        fields.check(self)


def table3() -> dict[str, dict[int, float]]:
    """Returns {run: {epochs: accuracy in per cent}}; an arm's run has its name."""
    columns = paper.table("funmatch/table3")
    epochs = [key for key in columns if key != "run"]
    return {
        str(run): {
            int(key): float(columns[key][index])
            for key in epochs
            if np.isfinite(columns[key][index])
        }
        for index, run in enumerate(columns["run"])
    }


def table4(name: str) -> tuple[Setting, ...]:
    """Returns the settings of a set in the paper's table 4."""
    columns = paper.table("funmatch/table4")
    return tuple(
        Setting(
            epochs=int(columns["epochs"][row]),
            rate=float(columns["rate"][row]),
            decay=float(columns["decay"][row]),
            temperature=float(columns["temperature"][row]),
            paper=round(float(columns["accuracy"][row]) / 100, 4),
        )
        for row in (columns["set"] == name).nonzero()[0]
    )
