"""Config and presets of the FSP study; `cifar10` and `cifar100` have the paper's."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from experiments.common import config as common
from experiments.common import fields
from experiments.fsp.rows import FAST, HINTS, SMALL, TRANSFER, Row
from kd_heuristics import models
from kd_heuristics.runtime import files


@dataclasses.dataclass(frozen=True, kw_only=True)
class Phase:
    """A stage of training: steps in all, the first rate, the steps where it drops.

    Attributes:
      steps: length of the stage.
      rate: learning rate at the start.
      drops: steps at which the rate is multiplied by the config's drop_factor.
    """

    steps: int
    rate: float
    drops: tuple[int, ...]

    def __post_init__(self):
        if self.steps < 2:
            raise ValueError(f"a phase needs at least 2 steps, got {self.steps}")
        fields.check(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(common.Common):
    """A preset of this study; all lengths are in steps, as the paper has them.

    Open in the paper: the batch (128, as the recipe it follows), the weight of the
    pairs (1), how an ensemble votes (by its mean probabilities).

    Attributes:
      nets: networks of a row of table 1, averaged and as an ensemble.
      image_size: pixels a side; None: the set's own.
      padding: of the random crop, in pixels.
      teacher: network of the teacher, and of the student of table 1.
      model: network of the student of table 3.
      width: multiplies the number of channels.
      batch_size: examples of a training step.
      teacher_phase: training of the teacher.
      fast_phase: last stage of the students of table 1.
      fsp_phase: first stage with flow matrices.
      hint_phase: first stage with hints.
      drop_factor: multiplies the rate at each drop of a phase.
      momentum: of SGD.
      weight_decay: L2 coefficient on the kernels.
      clip_norm: largest global norm of the gradient in the first stages; None:
        unclipped.
      pair_weight: lambda, the weight of each pair of flow matrices.
      temperature: of FitNets' second stage and of distillation.
      points: points of the curves in the fast phase.
      eval_batch_size: examples at a time in evaluation.
      fast: whether tables 1 and 2 are made.
      small: whether tables 3 and 4 are made.
      transfer: whether table 5 is made.
      source_classes: table 5 goes from the classes below this one to the others; None:
        from source_weights to the whole set.
      source_weights: an `.npz` of torchvision's names (see `distill.imagenet`), without
        source_classes; None: the teacher is trained from scratch.
      input_batch_norm: whether the networks normalise their input, as the paper's CIFAR
        nets.
      target_examples: training images of the target of table 5; None: all.
      transfer_phase: last stage of the students of table 5.
      transfer_fsp_phase: first stage of table 5 with flow matrices.
      paper_tables: names of the paper's tables that ours are shown beside.
      smallest_effect: from which difference of accuracy on it counts.
      margin: half-width of the zone around smallest_effect in which a claim stays
        undecided.
    """

    nets: int = 3
    image_size: int | None = None
    padding: int = 4  # of the random crop; the paper names no flip
    teacher: str = "resnet26"
    model: str = "resnet8"
    width: float = 1.0
    batch_size: int = 128
    teacher_phase: Phase = Phase(steps=64_000, rate=0.1, drops=(32_000, 48_000))
    fast_phase: Phase = Phase(steps=21_000, rate=0.1, drops=(11_000, 16_000))
    fsp_phase: Phase = Phase(steps=21_000, rate=1e-3, drops=(11_000, 16_000))
    hint_phase: Phase = Phase(steps=35_000, rate=1e-4, drops=(25_000,))
    drop_factor: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 1e-4
    clip_norm: float | None = None
    pair_weight: float = 1.0
    temperature: float = 3.0
    points: int = 20
    eval_batch_size: int = 500
    fast: bool = True
    small: bool = True
    transfer: bool = True
    source_classes: int | None = 5
    source_weights: str | None = None
    input_batch_norm: bool = True  # as the paper's CIFAR nets
    target_examples: int | None = None
    transfer_phase: Phase = Phase(steps=30_000, rate=0.1, drops=(10_000, 20_000))
    transfer_fsp_phase: Phase = Phase(steps=21_000, rate=0.1, drops=(11_000, 16_000))
    paper_tables: tuple[str, str, str] = ("table1", "table3", "table5")
    # The spread of the paper's nets is 0.2 to 0.5 %.
    smallest_effect: float = 0.003
    margin: float = 0.003

    def __post_init__(self):
        super().__post_init__()
        for name in (self.teacher, self.model):
            models.check(name, 10, **self.model_options)
            if not name.startswith("resnet"):
                raise ValueError(
                    f"flow matrices join the sections of a ResNet, got {name!r}"
                )
        if self.small and not self.fast:
            raise ValueError(
                "the small nets of tables 3 and 4 learn from the teacher of tables 1 "
                "and 2: small=True needs fast=True"
            )
        if not (self.fast or self.transfer):
            raise ValueError("no table is asked for; set fast or transfer")
        if self.source_weights is not None:
            if self.source_classes is not None or self.input_batch_norm:
                raise ValueError(
                    "source_weights are ImageNet's, of a net without batch norm on its "
                    "input: they need source_classes=None, input_batch_norm=False"
                )
            if not files.path(self.source_weights).is_file():
                raise ValueError(
                    f"source_weights: there is no file {self.source_weights!r}; "
                    "kd_heuristics.distill.imagenet says how to write it"
                )
        if not 1 <= self.nets <= 100:
            raise ValueError(f"nets must be in 1..100, got {self.nets}")

    @property
    def eval_examples(self) -> int | None:
        """No part of the sets is looked at beside the test set."""
        return 1

    @property
    def model_options(self) -> dict[str, Any]:
        """What `models.create` takes for every network."""
        return {
            "width": self.width,
            "dtype": self.dtype,
            "input_batch_norm": self.input_batch_norm,
        }

    @property
    def rows(self) -> dict[str, Row]:
        """The rows of our tables, in order."""
        rows = FAST if self.fast else {}
        rows = rows | SMALL if self.small else rows
        return rows | self._transfer_rows if self.transfer else rows

    @property
    def _transfer_rows(self) -> dict[str, Row]:
        if self.source_classes is not None:
            return TRANSFER
        rows = {k: v for k, v in TRANSFER.items() if k != "transfer_source"}
        if self.source_weights is not None:
            teacher = dataclasses.replace(rows["transfer_teacher"], start="weights")
            return rows | {"transfer_teacher": teacher}
        del rows["transfer_teacher"]
        return {
            k: dataclasses.replace(v, teacher="transfer_teacher_scratch")
            for k, v in rows.items()
        }

    @property
    def arms(self) -> tuple[str, ...]:
        """Names of the rows."""
        return tuple(self.rows)

    @property
    def log_every_steps(self) -> int:
        """Steps between two points of a curve."""
        return max(1, self.fast_phase.steps // self.points)

    def iterations(self, arm: str) -> int:
        """Steps of all nets of a row, as the paper counts them."""
        row = self.rows[arm]
        nets = self.nets if arm in FAST else 1
        first = self.first_phase(arm)
        shared = 1 if row.start in (*HINTS, "flow") else nets
        return nets * self.last_phase(arm).steps + (
            shared * first.steps if first else 0
        )

    def last_phase(self, arm: str) -> Phase:
        """The last stage of a row."""
        return getattr(self, f"{self.rows[arm].phase}_phase")

    def first_phase(self, arm: str) -> Phase | None:
        """The first stage of a row; None where it has one stage alone."""
        row = self.rows[arm]
        if row.start in HINTS:
            return self.hint_phase
        if row.start not in ("flow", "shuffled"):
            return None
        return self.transfer_fsp_phase if row.part == "target" else self.fsp_phase


def third(steps: int, rate: float) -> Phase:
    """A phase whose rate drops at half and at three quarters, as the paper's do."""
    return Phase(steps=steps, rate=rate, drops=(steps // 2, 3 * steps // 4))


# The lengths keep the paper's proportions: a fast phase is a third of the teacher's.
# First stages, clipped at norm 1: by the mean validation accuracy of the four rows of
# table 1 that have one, seed 100, one net: 74.4 % at rate 0.003, 75.4 at 0.01 and 77.6
# at 0.03, with accuracies of single rows up to 6 % apart.
_SMALL = Config(
    dataset="digits_photo",
    image_size=16,
    padding=2,
    teacher="resnet14",
    model="resnet8",
    width=0.5,
    batch_size=32,
    teacher_phase=third(750, 0.1),
    fast_phase=third(250, 0.1),
    fsp_phase=third(250, 0.03),
    hint_phase=third(375, 0.03),
    clip_norm=1.0,
    transfer_phase=third(250, 0.1),
    transfer_fsp_phase=third(250, 0.03),
    target_examples=600,
    points=10,
    eval_batch_size=400,
    smallest_effect=0.005,
    margin=0.005,
)
PRESETS: Mapping[str, Config] = {
    "smoke": dataclasses.replace(
        _SMALL,
        seeds=1,
        nets=1,
        train_examples=64,
        image_size=8,
        padding=1,
        teacher="resnet8",
        width=0.25,
        teacher_phase=third(6, 0.1),
        fast_phase=third(4, 0.1),
        fsp_phase=third(2, 0.01),
        hint_phase=third(2, 0.01),
        transfer=False,  # other networks, twice as much to compile
        transfer_phase=third(4, 0.1),
        transfer_fsp_phase=third(2, 0.01),
        target_examples=32,
        points=2,
    ),
    "demo": dataclasses.replace(
        _SMALL,
        seeds=1,
        nets=2,
        teacher="resnet8",
        teacher_phase=third(300, 0.1),
        fast_phase=third(100, 0.1),
        fsp_phase=third(100, 0.03),
        hint_phase=third(100, 0.03),
        transfer_phase=third(100, 0.1),
        transfer_fsp_phase=third(100, 0.03),
        points=4,
    ),
    "digits": _SMALL,
    "cifar10": Config(),
    "cifar100": Config(
        dataset="cifar100",
        padding=0,
        teacher="resnet32",
        model="resnet14",
        width=4.0,
        fsp_phase=Phase(steps=32_000, rate=1e-3, drops=(16_000, 24_000)),
        source_classes=50,
        paper_tables=("table2", "table4", "table5"),
    ),
    # Table 5. Open in the paper: how images are cut (here squares of 224 pixels around
    # the middle, then random crops), batch (32: what one accelerator holds).
    "cub": Config(
        dataset="caltech_birds2011",
        image_size=224,
        padding=28,
        teacher="resnet34_imagenet",
        model="resnet20_imagenet",
        input_batch_norm=False,
        batch_size=32,
        fast=False,
        small=False,
        source_classes=None,
        eval_batch_size=100,
    ),
}
