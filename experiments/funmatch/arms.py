"""Arms, training lengths and the grid of the FunMatch study."""

import dataclasses
from typing import Literal

from experiments.common import fields


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
      images: the set's own images, or another set's without their labels: of unrelated
        things ("others") or of similar ones ("related").
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
    family: Literal["student", "mobilenet_gn", "mobilenet_bn", "mobilenet_small"] = (
        "student"
    )
    ensemble: bool = False
    images: Literal["own", "others", "related"] = "own"
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
    "shampoo": Arm(words="Shampoo, mixup", optimizer="shampoo"),
    "shampoo_same": Arm(words="Shampoo", view="same/ic", optimizer="shampoo"),
    # Without mixup: Figure 5 compares the student with the consistent one.
    "pretrained": Arm(words="pretrained student", view="same/ic", init="pretrained"),
    "mobilenet_gn": Arm(words="MobileNetV3, group norm", family="mobilenet_gn"),
    "mobilenet_bn": Arm(words="MobileNetV3, batch norm", family="mobilenet_bn"),
    "mobilenet_small": Arm(
        words="MobileNetV3-Small, group norm", family="mobilenet_small"
    ),
    "mobilenet_gn_two": Arm(
        words="MobileNetV3, group norm, two teachers",
        family="mobilenet_gn",
        ensemble=True,
    ),
    "mobilenet_bn_two": Arm(
        words="MobileNetV3, batch norm, two teachers",
        family="mobilenet_bn",
        ensemble=True,
    ),
    "ensemble": Arm(words="two teachers at two resolutions", ensemble=True),
    "others": Arm(words="unrelated images", images="others"),
    "related": Arm(words="related images", images="related"),
    "labels": Arm(words="labels, Adam", view="same/ic", labels=True),
    "labels+mixup": Arm(words="labels, Adam, mixup", labels=True),
    "labels_sgd": Arm(
        words="labels, SGD", view="same/ic", labels=True, optimizer="sgd"
    ),
    "labels_sgd+mixup": Arm(words="labels, SGD, mixup", labels=True, optimizer="sgd"),
    "transfer": Arm(
        words="transfer by labels", view="same/ic", labels=True, init="pretrained"
    ),
    "transfer+mixup": Arm(
        words="transfer by labels, mixup", labels=True, init="pretrained"
    ),
}
MAIN = ("fix/cc", "ind/ic", "same/ic", "mix")
# Rows of the paper's tables and figures on its own sets alone.
_PAPERS = (
    "shampoo_same",
    "mobilenet_small",
    "mobilenet_gn_two",
    "mobilenet_bn_two",
    "related",
    "transfer",
    "transfer+mixup",
)
OTHERS = tuple(arm for arm in ARMS if arm not in (*MAIN, *_PAPERS))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """A training length with its hyperparameters, as table 4 has them."""

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
