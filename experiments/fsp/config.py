"""Config and presets of the FSP study; `cifar10` and `cifar100` have the paper's."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from annotated_types import Ge, Interval

from experiments.common import config as common
from experiments.common import fields
from experiments.fsp.rows import FAST, HINTS, SMALL, TRANSFER, Row
from kd_heuristics import data, models
from kd_heuristics.runs.claims import LOOKS
from kd_heuristics.runtime import files

# Rows that no other row and no main claim needs.
Secondary = Literal[
    "teacher_more", "fitnet_3_hints", "shuffled", "small_kd", "small_fsp_kd"
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Phase:
    """A stage of training."""

    steps: Annotated[int, Ge(2)]
    """Length of the stage in steps."""
    rate: fields.Positive
    """Learning rate at the start."""
    drops: fields.Drops = (1 / 2, 3 / 4)  # as most of the paper's
    """Steps where the rate drops. Floats are shares of `steps`."""

    def __post_init__(self):
        fields.check(self)

    def derived(self) -> dict[str, Any]:
        """The drops in steps."""
        return {"drops": fields.drops("drops", self.drops, self.steps)}


_LATE = (11 / 21, 16 / 21)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(common.Common):
    """A preset of this study; all lengths are in steps, as the paper has them.

    Open in the paper: the batch (128, as the recipe it follows), the weight of the
    pairs (1), how an ensemble votes (by its mean probabilities).
    """

    nets: Annotated[int, Interval(ge=1, le=100)] = 3
    """Networks of a row of table 1, averaged and as an ensemble."""
    image_size: fields.Count | None = None
    """Pixels a side. `None` keeps the dataset's own size."""
    test_examples: fields.Count | None = None
    """Images of the test set that accuracies are measured on, but for table 5.
    `None` uses all."""
    padding: fields.Natural = 4  # the paper names no flip
    """Padding of the random crop in pixels."""
    teacher: str = "resnet26"
    """Name of the network of the teacher, and of the student of table 1."""
    model: str = "resnet8"
    """Name of the network of the student of table 3."""
    width: fields.Positive = 1.0
    """Factor of the number of channels."""
    batch_size: fields.Count = 128
    teacher_phase: Phase = Phase(steps=64_000, rate=0.1)
    """Training of the teacher."""
    fast_phase: Phase = Phase(steps=21_000, rate=0.1, drops=_LATE)
    """Last stage of the students of table 1."""
    fsp_phase: Phase = Phase(steps=21_000, rate=1e-3, drops=_LATE)
    """First stage with flow matrices."""
    hint_phase: Phase = Phase(steps=35_000, rate=1e-4, drops=(5 / 7,))
    """First stage with hints."""
    drop_factor: fields.Share = 0.1
    """Factor of the rate at each drop of a phase."""
    momentum: fields.Fraction = 0.9
    """Momentum of SGD."""
    weight_decay: fields.NotNegative = 1e-4
    """L2 coefficient on the kernels."""
    clip_norm: fields.Positive | None = None
    """Largest global norm of the gradient in first stages. `None` disables clipping."""
    pair_weight: fields.NotNegative = 1.0
    """Lambda, the weight of each pair of flow matrices."""
    temperature: fields.Positive = 3.0
    """Temperature of FitNets' second stage and of distillation."""
    points: fields.Count = 20
    """Points of the curves in the fast phase."""
    fast: bool = True
    """Whether tables 1 and 2 are made."""
    small: bool = True
    """Whether tables 3 and 4 are made."""
    transfer: bool = True
    """Whether table 5 is made."""
    left_out: tuple[Secondary, ...] = ()
    """Rows that are not trained, of those that no main claim needs."""
    source_classes: fields.Count | None = 5
    """Table 5 goes from the classes below this one to the others.
    `None` goes from source_weights to the whole dataset."""
    source_weights: str | None = None
    """An `.npz` with torchvision's names (see `distill.imagenet`).
    It excludes source_classes. `None` trains the teacher from scratch."""
    model_layers: str | None = None
    """Pattern of the layers of `model` that hints and flow matrices may join, such as
    "*conv*". `None` takes ReLUs and residual blocks, or all maps without either."""
    teacher_layers: str | None = None
    """Pattern of the layers of `teacher` that they may join, likewise."""
    timing_steps: fields.Natural = 20
    """Steps timed for the table of speeds. 0 makes none."""
    input_batch_norm: bool = True
    """Whether the networks normalise their input, as the paper's CIFAR nets."""
    target_examples: fields.Count | None = None
    """Training images of the target of table 5. `None` uses all."""
    transfer_phase: Phase = Phase(steps=30_000, rate=0.1, drops=(1 / 3, 2 / 3))
    """Last stage of the students of table 5."""
    transfer_fsp_phase: Phase = Phase(steps=21_000, rate=0.1, drops=_LATE)
    """First stage of table 5 with flow matrices."""
    paper_tables: tuple[str, str, str] = ("table1", "table3", "table5")
    """Names of the paper's tables that ours are shown beside."""
    # The spread of the paper's nets is 0.2 to 0.5 %.
    smallest_effect: fields.Positive = 0.003

    def check(self):
        super().check()
        for name in (self.teacher, self.model):
            models.check(name, 10, **self._options(name))
            if not (name.startswith("resnet") or models.is_own(name)):
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
        check_classes(self, data.describe(self.dataset).num_classes)
        if self.source_weights is not None:
            if self.source_classes is not None or self.input_batch_norm:
                raise ValueError(
                    "source_weights are ImageNet's, of a net without batch norm on its "
                    "input: they need source_classes=None, input_batch_norm=False"
                )
            if models.is_own(self.teacher):
                raise ValueError(
                    "source_weights are of a ResNet of ours, got the teacher "
                    f"{self.teacher!r}; leave source_weights out"
                )
            if not files.path(self.source_weights).is_file():
                raise ValueError(
                    f"source_weights: there is no file {self.source_weights!r}; "
                    "kd_heuristics.distill.imagenet says how to write it"
                )

    @property
    def eval_examples(self) -> int | None:
        """No part of the sets is looked at beside the test set."""
        return 1

    @property
    def model_options(self) -> dict[str, Any]:
        """What `models.create` takes for the network `model`."""
        return self._options(self.model)

    @property
    def teacher_options(self) -> dict[str, Any]:
        """What it takes for the network `teacher`."""
        return self._options(self.teacher)

    def _options(self, name: str) -> dict[str, Any]:
        """What it takes for a name; a user's function gets what its signature has."""
        options = {
            "width": self.width,
            "dtype": self.dtype,
            "input_batch_norm": self.input_batch_norm,
        }
        return models.accepted(name, options) if models.is_own(name) else options

    @property
    def rows(self) -> dict[str, Row]:
        """The rows that are trained, in the order of our tables."""
        rows = FAST if self.fast else {}
        rows = rows | SMALL if self.small else rows
        rows = rows | self._transfer_rows if self.transfer else rows
        return {name: row for name, row in rows.items() if name not in self.left_out}

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


def check_classes(config: Config, num_classes: int) -> None:
    """Raises ValueError if a set has too few classes for the config's transfer."""
    first = config.source_classes
    if config.transfer and first is not None and not 2 <= first <= num_classes - 2:
        raise ValueError(
            f"source_classes must leave 2 classes or more on each side of the {first}, "
            f"but the set has {num_classes}; change it, or set transfer=False"
        )


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
    teacher_phase=Phase(steps=1875, rate=0.1),
    fast_phase=Phase(steps=625, rate=0.1),
    fsp_phase=Phase(steps=625, rate=0.03),
    hint_phase=Phase(steps=938, rate=0.03),
    clip_norm=1.0,
    nets=1,
    left_out=get_args(Secondary),
    transfer=False,
    transfer_phase=Phase(steps=250, rate=0.1),
    transfer_fsp_phase=Phase(steps=250, rate=0.03),
    target_examples=600,
    points=10,
    eval_batch_size=400,
    smallest_effect=0.005,
)
PRESETS: Mapping[str, Config] = {
    "smoke": dataclasses.replace(
        _SMALL,
        seeds=1,
        left_out=(),
        train_examples=64,
        image_size=8,
        padding=1,
        teacher="resnet8",
        width=0.25,
        teacher_phase=Phase(steps=6, rate=0.1),
        fast_phase=Phase(steps=4, rate=0.1),
        fsp_phase=Phase(steps=2, rate=0.01),
        hint_phase=Phase(steps=2, rate=0.01),
        transfer=False,  # other networks, twice as much to compile
        transfer_phase=Phase(steps=4, rate=0.1),
        transfer_fsp_phase=Phase(steps=2, rate=0.01),
        target_examples=32,
        points=2,
        timing_steps=2,
    ),
    "demo": dataclasses.replace(
        _SMALL,
        seeds=1,
        nets=2,
        left_out=(),
        transfer=True,
        teacher="resnet8",
        teacher_phase=Phase(steps=300, rate=0.1),
        fast_phase=Phase(steps=100, rate=0.1),
        fsp_phase=Phase(steps=100, rate=0.03),
        hint_phase=Phase(steps=100, rate=0.03),
        transfer_phase=Phase(steps=100, rate=0.1),
        transfer_fsp_phase=Phase(steps=100, rate=0.03),
        points=4,
    ),
    "digits": dataclasses.replace(_SMALL, seeds="auto", looks=LOOKS),
    "fashion": dataclasses.replace(
        _SMALL,
        **common.FASHION | {"image_size": 28, "test_examples": 4000},
    ),
    "fashion_full": Config(dataset="fashion_mnist", image_size=32),
    "cifar10": Config(),
    "cifar100": Config(
        dataset="cifar100",
        padding=0,
        teacher="resnet32",
        model="resnet14",
        width=4.0,
        fsp_phase=Phase(steps=32_000, rate=1e-3),
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
