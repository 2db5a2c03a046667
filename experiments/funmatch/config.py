"""Config and presets of the FunMatch study; five presets are from the paper."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from experiments.common import config as common
from experiments.common import fields
from experiments.funmatch import checks, papers
from experiments.funmatch.arms import ARMS, MAIN, OTHERS, Arm, Grid, Setting
from kd_heuristics import models
from kd_heuristics.runs.claims import LOOKS
from kd_heuristics.runtime import nearest


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(common.Common):
    """A preset of this study. Epochs are passes over the training images.

    The paper leaves open, and we chose, the rates of SGD and Shampoo relative to Adam's
    and the pretraining of the arm "pretrained" on small sets. The paper found the
    settings of each arm by its grid (`--sweep`) but lists only FunMatch's; here every
    arm has those.
    """

    seeds: fields.Seeds = 1
    """Number of seeds of the main arms."""
    dataset: str = "oxford_flowers102"
    others: str = "food101"
    """Dataset whose images, of unrelated things, the arm "others" trains on."""
    related: str | None = None
    """Dataset whose images, of similar things, the arm "related" trains on."""
    streamed: bool = False
    """Read training images while the device trains. All seeds then share one order."""
    held_examples: fields.Count | None = None
    """Images of each held-out set. `None` uses all."""
    workers: fields.Natural = 0
    """Processes that read streamed images; 0 uses threads."""
    on_bad: Literal["stop", "skip"] = "stop"
    """Whether an unreadable record stops the run or is skipped."""
    stored_size: fields.Count | None = None
    """Pixels a side of images in memory. `None` keeps the dataset's own size."""
    teacher: str = "bit_r152x2"
    """Name of the teacher's network, or your own: nets.py:make."""
    teacher_width: fields.Positive = 1.0
    """Factor of the teacher's number of channels."""
    teacher_weights: str | None = None
    """An .npz file of the teacher. `None` trains it."""
    teacher_examples: fields.Count | None = None
    """Training images of the teacher. `None` uses all."""
    teacher_epochs: fields.Natural = 0
    """Length of the teacher's training on labels in epochs."""
    teacher_rate: fields.Positive = 0.003
    """Peak learning rate of the teacher's training."""
    teacher_view: Literal["same/rc", "same/ic"] = "same/rc"
    """Crops of the teacher's training: mild, as in the paper, or inception crops."""
    teacher_size: fields.Count = 128
    """Pixels a side of the teacher's input."""
    second_weights: str | None = None
    """An .npz file of the ensemble's other teacher. `None` trains it."""
    model: str = "bit_r50x1"
    """Name of the student's network, or your own: nets.py:make."""
    width: fields.Positive = 1.0
    """Factor of the student's number of channels."""
    student_size: fields.Count = 128
    """Pixels a side of the student's input."""
    whole_size: fields.Count | None = None
    """Pixels a side of the whole images of the arm "fix/rs", for both networks. `None`
    takes each one's own."""
    student_weights: str | None = None
    """An .npz file of pretrained students. `None` trains it as the teacher."""
    family: str = "mobilenet_v3_large"
    """Name of the network of the MobileNet arms."""
    small_family: str = "mobilenet_v3_small"
    """Name of the network of the arm "mobilenet_small"."""
    batch_size: fields.Count = 512
    settings: tuple[Setting, ...] = ()
    """Training lengths, each with its hyperparameters."""
    main: tuple[str, ...] = MAIN
    """Arms that run at every setting, with all seeds."""
    other_arms: tuple[str, ...] = OTHERS
    """Arms that run at one setting, with one seed."""
    other_epochs: fields.Derived[fields.Natural] = fields.DERIVED
    """Epochs of that setting. `None` takes the middle one."""
    rows: tuple[str, ...] = ()
    """The only trainings of these arms that run, as ARM@EPOCHS. Empty runs all."""
    warmup_steps: fields.Natural = 1500
    """Warmup steps of every training."""
    clip_norm: fields.Positive = 1.0
    """Largest global norm of the gradient."""
    moment_dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """Type of Adam's first moment."""
    sgd_rate_factor: fields.Positive = 10.0
    """Learning rate of SGD relative to Adam's."""
    sgd_momentum: fields.Fraction = 0.9
    """Momentum of SGD."""
    shampoo_warmup_steps: fields.Natural = 1800
    """Steps of Shampoo's warmup. Its rate then falls to 0 on a parabola."""
    shampoo_decay: fields.NotNegative = 3.75e-4
    """Weight decay of Shampoo, whatever the setting's."""
    shampoo_rate_factor: fields.Positive = 1.0
    """Learning rate of Shampoo relative to Adam's."""
    ensemble_crops: fields.Count = 1000
    """Number of crops of each image that the arm fix/ic_ens averages."""
    flip: bool = True
    """Whether to mirror images at random."""
    fraction: fields.Share = 128 / 160
    """Side of mild and central crops, as a share of the image's."""
    smallest_area: fields.Share = 0.05
    """Smallest area of inception crops, as a share of the image's."""
    points: fields.Count = 8
    """Number of points on the training curves."""
    eval_batch_size: fields.Count = 256
    grid: Grid = dataclasses.field(default_factory=Grid)
    """Values that a sweep tries."""

    def check(self):
        super().check()
        for net, options in self.networks.values():
            models.check(net, 10, **options)
        if not self.main:
            raise ValueError(f"main must name at least one of {', '.join(ARMS)}")
        for arm in self.arms:
            nearest.choose(arm, tuple(ARMS), "arm")
        checks.sets(self)
        epochs = [setting.epochs for setting in self.settings]
        if epochs != sorted(set(epochs)) or min(epochs, default=0) < 1:
            raise ValueError(
                f"settings must have ascending epochs of at least 1, got {epochs}"
            )
        if self.other_arms and self.other_epochs not in epochs:
            raise ValueError(
                f"other_epochs must be the epochs of a setting, {epochs}, got "
                f"{self.other_epochs}; None takes the middle one"
            )
        every = [papers.row(*cell) for cell in self._cells()]
        for row in self.rows:
            nearest.choose(row, every, "row of main and other_arms:")
        if self.teacher_weights is None and self.teacher_epochs < 1:
            raise ValueError(
                "a teacher needs teacher_weights, or teacher_epochs of training, at "
                f"least 1, got {self.teacher_epochs}"
            )
        checks.resolution("teacher_weights", self.teacher_weights, self.teacher_size)
        checks.resolution("second_weights", self.second_weights, self.student_size)

    def derived(self) -> dict[str, Any]:
        """Returns the length of the other arms."""
        lengths = [setting.epochs for setting in self.settings] or [0]
        middle = lengths[(len(lengths) - 1) // 2]
        return {"other_epochs": fields.given(self.other_epochs, middle)}

    @property
    def arms(self) -> tuple[str, ...]:
        """All arms that run, in order."""
        every = dict.fromkeys((*self.main, *self.other_arms))
        if not self.rows:
            return tuple(every)
        named = {row.rpartition("@")[0] for row in self.rows}
        return tuple(arm for arm in every if arm in named)

    def _cells(self) -> list[tuple[str, int]]:
        """Each arm at each of its lengths, whatever `rows` says."""
        other = self.resolved.other_epochs
        return [
            (arm, setting.epochs)
            for arm in dict.fromkeys((*self.main, *self.other_arms))
            for setting in self.settings
            if arm in self.main or setting.epochs == other
        ]

    def plan(self, arm: str) -> tuple[tuple[Setting, int], ...]:
        """Returns the settings of an arm, each with its number of seeds."""
        seeds = self.seeds if arm in self.main else 1
        found = {
            epochs
            for one, epochs in self._cells()
            if one == arm and (not self.rows or papers.row(arm, epochs) in self.rows)
        }
        return tuple((s, seeds) for s in self.settings if s.epochs in found)

    def has(self, **attributes: Any) -> bool:
        """Whether an arm that runs has these attributes: `has(ensemble=True)`."""
        arms = [vars(ARMS[arm]) for arm in self.arms]
        return any(attributes.items() <= arm.items() for arm in arms)

    def sizes(self, arm: Arm) -> tuple[int, int]:
        """Returns the pixels a side of the teacher's and the student's input."""
        if arm.view == "fix/rs" and self.whole_size is not None:
            return self.whole_size, self.whole_size
        full = self.teacher_size if arm.full_size else self.student_size
        return self.teacher_size, full

    @property
    def networks(self) -> dict[str, tuple[str, dict[str, Any]]]:
        """Name and options of each network, as `models.create` takes them."""
        group = {"norm": "group", "dtype": self.dtype}
        batch = {"norm": "batch", "dtype": self.dtype}
        found = {
            "teacher": (self.teacher, {"width": self.teacher_width}),
            "student": (self.model, {"width": self.width}),
            "mobilenet_gn": (self.family, group),
            "mobilenet_bn": (self.family, batch),
            "mobilenet_small": (self.small_family, group),
        }
        return {
            part: (net, models.accepted(net, {"dtype": self.dtype, **options}))
            for part, (net, options) in found.items()
        }


def _settings(*epochs: int, **own: float) -> tuple[Setting, ...]:
    """Makes settings of these lengths, with the same hyperparameters."""
    return tuple(Setting(epochs=n, **own) for n in epochs)


# Originals of 64 x 64 pixels with one digit each; crops are at least a quarter of the
# image, so that the digit stays recognisable.
_SMALL = Config(
    seeds=3,
    dataset="digits_photo",
    others="photo_patches",
    train_examples=512,
    stored_size=64,
    teacher="bit_tiny",
    teacher_epochs=12,
    teacher_rate=0.003,
    teacher_size=64,
    model="bit_tiny",
    width=0.5,
    student_size=32,
    family="mobilenet_tiny",
    small_family="mobilenet_tiny",
    batch_size=32,
    settings=_settings(8, 32, 128, rate=0.01, decay=3e-4, temperature=2.0),
    warmup_steps=20,
    shampoo_warmup_steps=24,
    ensemble_crops=128,
    flip=False,
    smallest_area=0.25,
    points=4,
    eval_batch_size=400,
)
# Rows of the paper's tables that `digits` lacks, by length. As there, Shampoo stops
# before the longest, and two teachers and MobileNets have a length in the middle. A
# step of Shampoo costs 16 of Adam's here, so its rows are few.
_ROWS = {
    6: ("same/ic", "mix", "shampoo_same", "pretrained"),
    24: (
        *("same/ic", "mix", "shampoo_same", "shampoo", "pretrained", "ensemble"),
        *("mobilenet_gn", "mobilenet_gn_two", "mobilenet_bn", "mobilenet_bn_two"),
    ),
    96: ("same/ic", "pretrained"),
}
PRESETS: Mapping[str, Config] = {
    "smoke": dataclasses.replace(
        _SMALL,
        seeds=1,
        train_examples=64,
        teacher_examples=64,
        held_examples=100,
        stored_size=32,
        teacher_size=32,
        student_size=16,
        teacher_width=0.25,
        width=0.25,
        teacher_epochs=1,
        settings=_settings(2, 4, rate=0.01, decay=3e-4, temperature=2.0),
        main=("fix/cc", "mix"),
        other_arms=(),
        warmup_steps=1,
        shampoo_warmup_steps=1,
        ensemble_crops=2,
        points=2,
        eval_batch_size=100,
    ),
    "demo": dataclasses.replace(
        _SMALL,
        seeds=4,
        looks=(4,),
        train_examples=256,
        teacher_examples=2400,
        teacher_epochs=6,
        settings=_settings(2, 32, rate=0.01, decay=3e-4, temperature=2.0),
        main=("fix/cc", "same/ic", "mix"),  # each arm compiles for seconds
        other_arms=(),
        warmup_steps=10,
        shampoo_warmup_steps=12,
    ),
    "digits": dataclasses.replace(
        _SMALL,
        seeds="auto",
        looks=LOOKS,
        settings=_settings(8, 128, rate=0.01, decay=3e-4, temperature=2.0),
        other_arms=(),
    ),
    # The paper's other rows, in small; a family has seeds of its own.
    "rows": dataclasses.replace(
        _SMALL,
        **common.family(4),
        settings=_settings(*_ROWS, rate=0.01, decay=3e-4, temperature=2.0),
        main=_ROWS[24],
        other_arms=(),
        rows=tuple(papers.row(arm, n) for n, arms in _ROWS.items() for arm in arms),
    ),
    "cifar10": Config(
        seeds=3,
        dataset="cifar10_holdout",
        others="cifar100",
        teacher="resnet18",
        teacher_epochs=200,
        teacher_size=32,
        model="resnet20",
        student_size=32,
        family="mobilenet_v3_small",
        settings=_settings(100, 400, 1600, rate=0.003, decay=3e-4, temperature=5.0),
        other_arms=tuple(arm for arm in OTHERS if arm != "full_size"),
    ),
    **{name: Config(**options) for name, options in papers.PRESETS.items()},
}


def name(arm: str, epochs: int) -> str:
    """Returns the name of an arm at a length, in files and results.

    >>> name("fix/cc", 10)
    'fix-cc@10'
    """
    return f"{arm.replace('/', '-')}@{epochs}"
