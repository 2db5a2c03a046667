"""Presets and claims of the FSP study; `cifar10` and `cifar100` have the paper's."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from experiments.common import config as common
from experiments.common import fields
from kd_heuristics import files, models, paper
from kd_heuristics.report import Claim

SHARE = "share of steps to the final loss of teacher_fast"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """A row of our tables: how its nets come about.

    Attributes:
      size: "large": of the teacher's form; "small": of the student's.
      start: "fresh"; "weights", from a file; a key of `HINTS`, or "flow": after that
        first stage, one a seed, or "shuffled": with one for each net; else the row
        whose nets are trained on.
      soft: the last stage has soft targets beside labels, as the second of FitNets.
      phase: of the last stage.
      part: of the classes: "all", or "source" or "target" of the transfer.
      teacher: the row whose first net teaches.
    """

    size: Literal["large", "small"] = "large"
    start: str = "fresh"
    soft: bool = False
    phase: Literal["teacher", "fast", "transfer"] = "fast"
    part: Literal["all", "source", "target"] = "all"
    teacher: str = "teacher"


# Starts with hints: how many of the sections give one, from the middle out. The paper
# does not say which "3 middle layers" its second FitNet had.
HINTS = {"hints": 1, "three_hints": 3}
FAST = {
    "teacher": Row(phase="teacher"),
    "teacher_fast": Row(),
    "teacher_more": Row(start="teacher"),
    "fitnet": Row(start="hints", soft=True),
    "fitnet_3_hints": Row(start="three_hints", soft=True),
    "student": Row(start="flow"),
    "shuffled": Row(start="shuffled"),
}
SMALL = {
    "small": Row(size="small", phase="teacher"),
    "small_fitnet": Row(size="small", start="hints", soft=True, phase="teacher"),
    "small_fsp": Row(size="small", start="flow", phase="teacher"),
    "small_kd": Row(size="small", soft=True, phase="teacher"),
    "small_fsp_kd": Row(size="small", start="flow", soft=True, phase="teacher"),
}
_TARGET: dict[str, Any] = {
    "phase": "transfer",
    "part": "target",
    "teacher": "transfer_teacher",
}
TRANSFER = {
    "transfer_source": Row(phase="teacher", part="source"),
    "transfer_teacher": Row(start="transfer_source", **_TARGET),
    "transfer_teacher_scratch": Row(**_TARGET),
    "transfer_scratch": Row(size="small", **_TARGET),
    "transfer_fitnet": Row(size="small", start="hints", soft=True, **_TARGET),
    "transfer_fsp": Row(size="small", start="flow", **_TARGET),
}
NEVER = 2**30  # a step that no run reaches


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


def claims(config: Config) -> tuple[Claim, ...]:
    """What the paper says, as numbers that a run can contradict."""
    rules = {"smallest_effect": config.smallest_effect, "margin": config.margin}
    as_well = {"smallest_effect": -config.smallest_effect, "margin": 0.0}
    fast, small, transfer = (papers_table(name) for name in config.paper_tables)
    rows: list[tuple[str, str, str, dict, float | None]] = []
    if config.fast:
        rows += [
            (
                "faster: after FSP a third of the steps does as well as the "
                "teacher's all",
                "student",
                "teacher",
                as_well,
                _gap(fast, "student", "teacher"),
            ),
            (
                "faster: after FSP a net is better than another of as many steps",
                "student",
                "teacher_fast",
                rules,
                _gap(fast, "student", "teacher_fast"),
            ),
            (
                "shuffled flow matrices make a better ensemble",
                "shuffled ensemble",
                "student ensemble",
                rules,
                _gap(fast, "shuffled", "student", "ensemble"),
            ),
        ]
    if config.small:
        rows += [
            (
                "better: FSP makes a better small net than labels alone",
                "small_fsp",
                "small",
                rules,
                _gap(small, "small_fsp", "small"),
            ),
            (
                "better: FSP makes a better small net than FitNets",
                "small_fsp",
                "small_fitnet",
                rules,
                _gap(small, "small_fsp", "small_fitnet"),
            ),
            (
                "FSP makes a better small net than soft targets",
                "small_fsp",
                "small_kd",
                rules,
                None,
            ),
        ]
    if config.transfer:
        rows += [
            (
                f"transfers: FSP makes a better small net than {words}",
                "transfer_fsp",
                other,
                rules,
                _gap(transfer, "transfer_fsp", other),
            )
            for other, words in (
                ("transfer_scratch", "labels alone"),
                ("transfer_fitnet", "FitNets"),
            )
        ]
    found = [
        Claim(
            key=f"accuracy/{a}/{b}".replace(" ", "-"),
            statement=statement,
            statistic=difference(a, b),
            direction="above",
            unit="accuracy",
            paper=value,
            **rule,
        )
        for statement, a, b, rule, value in rows
    ]
    if not config.fast:
        return tuple(found)
    speed = Claim(
        key="share-of-steps",
        statement="faster: FSP reaches the other's final loss in half its steps",
        statistic=SHARE,
        direction="below",
        smallest_effect=0.5,
        margin=0.0,
        unit="of the steps of the second stage",
        paper=round(1 / 3, 4),
    )
    return (*found, speed)


def difference(arm: str, other: str) -> str:
    """The name of a statistic.

    >>> difference("student", "teacher")
    'student minus teacher'
    """
    return f"{arm} minus {other}"


def papers_table(name: str) -> dict[str, dict[str, float]]:
    """A table of the paper, `{row: {column: value}}`; accuracies from 0 to 1."""
    columns = dict(paper.table(f"fsp/{name}"))
    arms = columns.pop("arm")
    if "accuracy" in columns:
        columns["average"] = columns.pop("accuracy")
    return {
        str(arm): {
            key: float(values[row]) / (1 if key == "iterations" else 100)
            for key, values in columns.items()
        }
        for row, arm in enumerate(arms)
    }


def _gap(table, arm, other, column="average") -> float | None:
    if arm not in table or other not in table:
        return None
    return round(float(np.subtract(table[arm][column], table[other][column])), 4)
