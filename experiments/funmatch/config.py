"""Config and presets of the FunMatch study; five presets are the paper's."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, Literal

from experiments.common import config as common
from experiments.common import fields
from experiments.funmatch.arms import ARMS, MAIN, OTHERS, Grid, Setting, table3, table4
from kd_heuristics import data, models
from kd_heuristics.runtime import nearest


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(common.Common):
    """A preset of this study. Epochs are passes over the training images.

    Open in the paper and ours: the rate of SGD and of Shampoo relative to Adam's, how
    the student of the arm "pretrained" came to its weights on small sets, and the
    settings of all arms but FunMatch, which the paper found for each by its grid
    (`--sweep`) and does not list: here every arm has FunMatch's.
    """

    seeds: fields.Count = 1
    """Number of seeds of the main arms."""
    dataset: str = "oxford_flowers102"
    others: str = "food101"
    """Name of the dataset whose images the arm "others" is taught on."""
    streamed: bool = False
    """Read training images while the device trains. All seeds then have one order."""
    held_examples: fields.Count | None = None
    """Images of the held-out sets. `None` uses all."""
    workers: fields.Natural = 0
    """Processes that read images when streamed; 0: threads."""
    on_bad: Literal["stop", "skip"] = "stop"
    """What an unreadable record does: stop the run, or be skipped."""
    stored_size: fields.Count | None = None
    """Pixels a side of images in memory. `None` keeps the dataset's own size."""
    teacher: str = "bit_r152x2"
    """Name of the teacher's network."""
    teacher_width: fields.Positive = 1.0
    """Factor of the teacher's number of channels."""
    teacher_weights: str | None = None
    """An .npz file of the teacher. `None` trains it."""
    teacher_examples: fields.Count | None = None
    """Images of the teacher's training. `None` uses all."""
    teacher_epochs: fields.Natural = 0
    """Length of the teacher's training on labels in epochs."""
    teacher_rate: fields.Positive = 0.003
    """Peak learning rate of that training."""
    teacher_view: Literal["same/rc", "same/ic"] = "same/rc"
    """Crops of that training: mild, as in the paper, or inception's."""
    teacher_size: fields.Count = 128
    """Pixels a side of what the teacher sees."""
    second_weights: str | None = None
    """An .npz file of the ensemble's other teacher. `None` trains it."""
    model: str = "bit_r50x1"
    """Name of the student's network."""
    width: fields.Positive = 1.0
    """Factor of the student's number of channels."""
    student_size: fields.Count = 128
    """Pixels a side of what the student sees."""
    student_weights: str | None = None
    """An .npz file for the arm "pretrained". `None` trains it as the teacher."""
    family: str = "mobilenet_v3_large"
    """Name of the network of the MobileNet arms."""
    batch_size: fields.Count = 512
    settings: tuple[Setting, ...] = ()
    """Lengths of training, each with its numbers."""
    main: tuple[str, ...] = MAIN
    """Arms that run at every setting, with all seeds."""
    other_arms: tuple[str, ...] = OTHERS
    """Arms that run at one setting, with one seed."""
    other_epochs: fields.Derived[fields.Natural] = fields.DERIVED
    """That setting, by its epochs. `None` takes the middle one."""
    warmup_steps: fields.Natural = 1500
    """Steps of the warmup of every training."""
    clip_norm: fields.Positive = 1.0
    """Largest global norm of the gradient."""
    moment_dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """Type of Adam's first moment."""
    sgd_rate_factor: fields.Positive = 10.0
    """SGD's rate over Adam's."""
    sgd_momentum: fields.Fraction = 0.9
    """Momentum of SGD."""
    shampoo_rate_factor: fields.Positive = 1.0
    """Shampoo's rate over Adam's."""
    ensemble_crops: fields.Count = 1000
    """Crops of each image that the arm fix/ic_ens averages."""
    flip: bool = True
    """Whether images are mirrored at random."""
    fraction: fields.Share = 128 / 160
    """Side of mild and central crops, as a share of the image's."""
    smallest_area: fields.Share = 0.05
    """Area of the smallest inception crops, as a share of the image's."""
    points: fields.Count = 8
    """Points of the curves."""
    eval_batch_size: fields.Count = 256
    grid: Grid = dataclasses.field(default_factory=Grid)
    """What a sweep tries."""

    def check(self):
        super().check()
        data.describe(self.others, self.stored_size)
        for net, options in (
            (self.model, self.student_options),
            (self.teacher, self.teacher_options),
            (self.family, self.family_options("group")),
        ):
            models.check(net, 10, **options)
        for arm in self.arms:
            nearest.choose(arm, tuple(ARMS), "arm")
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
        if self.teacher_weights is None and self.teacher_epochs < 1:
            raise ValueError(
                "a teacher needs teacher_weights, or teacher_epochs of training, at "
                f"least 1, got {self.teacher_epochs}"
            )
        _check_resolution("teacher_weights", self.teacher_weights, self.teacher_size)
        _check_resolution("second_weights", self.second_weights, self.student_size)

    def derived(self) -> dict[str, Any]:
        """The length of the other arms."""
        lengths = [setting.epochs for setting in self.settings] or [0]
        middle = lengths[(len(lengths) - 1) // 2]
        return {"other_epochs": fields.given(self.other_epochs, middle)}

    @property
    def arms(self) -> tuple[str, ...]:
        """All of them, in order."""
        return (*self.main, *(arm for arm in self.other_arms if arm not in self.main))

    def plan(self, arm: str) -> tuple[tuple[Setting, int], ...]:
        """The settings of an arm, each with its number of seeds."""
        if arm in self.main:
            return tuple((setting, self.seeds) for setting in self.settings)
        chosen = [s for s in self.settings if s.epochs == self.resolved.other_epochs]
        return tuple((setting, 1) for setting in chosen)

    @property
    def student_options(self) -> dict[str, Any]:
        """What `models.create` takes for the student."""
        return {"width": self.width, "dtype": self.dtype}

    @property
    def teacher_options(self) -> dict[str, Any]:
        """What `models.create` takes for the teacher."""
        return {"width": self.teacher_width, "dtype": self.dtype}

    def family_options(self, norm: str) -> dict[str, Any]:
        """What `models.create` takes for a student of the other family."""
        return {"norm": norm, "dtype": self.dtype}


def _check_resolution(field: str, weights: str | None, size: int) -> None:
    """Raises where a released file is of another resolution than its network's."""
    named = re.search(r"(\d{2,})\.npz$", weights or "")
    if named and int(named[1]) != size:
        raise ValueError(
            f"{field} {weights} are of {named[1]} pixels a side, and the network sees "
            f"{size}; give the file of {size} pixels, or set the size to {named[1]}"
        )


def _imagenet(run: str = "mix") -> tuple[Setting, ...]:
    """A row of table 3, with the one setting of the released configuration."""
    numbers: dict[str, float] = {"rate": 0.03, "decay": 3e-4, "temperature": 1.0}
    return tuple(
        Setting(epochs=epochs, paper=round(value / 100, 4), **numbers)
        for epochs, value in table3()[run].items()
    )


def _papers(name: str, weights: str, settings, **changes: Any) -> Config:
    """A set of the paper's: one seed, and the released teacher of that set."""
    options: dict[str, Any] = {
        "others": "food101" if name != "food101" else "sun397",
        "stored_size": 160,
        "student_weights": "weights/BiT-M-R50x1.npz",
        # One resolution and one teacher are released for each set.
        "other_arms": tuple(a for a in OTHERS if a not in ("ensemble", "full_size")),
        **changes,
    }
    return Config(
        dataset=name,
        streamed=True,
        teacher_weights=f"weights/{weights}.npz",
        settings=settings,
        **options,
    )


_IMAGENET: dict[str, Any] = {
    "stored_size": 256,
    "student_size": 224,
    "teacher_size": 224,
    "batch_size": 4096,
    "warmup_steps": 5000,
    "other_epochs": 300,
    "fraction": 224 / 256,
    # Targets of many crops are made of images in memory, which these do not fit into.
    "other_arms": tuple(
        arm
        for arm in OTHERS
        if arm not in ("ensemble", "full_size") and "ic_ens" not in arm
    ),
}


def _settings(*epochs: int, rate: float, decay: float, temperature: float):
    return tuple(
        Setting(epochs=n, rate=rate, decay=decay, temperature=temperature)
        for n in epochs
    )


# Originals of 64 x 64 pixels, a digit in each; crops of a quarter of the image or more,
# of which one can still tell the digit.
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
    batch_size=32,
    settings=_settings(8, 32, 128, rate=0.01, decay=3e-4, temperature=2.0),
    warmup_steps=20,
    ensemble_crops=128,
    flip=False,
    smallest_area=0.25,
    points=4,
    eval_batch_size=400,
)
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
        ensemble_crops=2,
        points=2,
        eval_batch_size=100,
    ),
    "demo": dataclasses.replace(
        _SMALL,
        seeds=1,
        train_examples=384,
        teacher_examples=2400,
        teacher_epochs=6,
        settings=_settings(2, 8, 32, rate=0.01, decay=3e-4, temperature=2.0),
        main=("fix/cc", "same/ic", "mix"),  # each arm's program compiles for seconds
        other_arms=("others",),
        warmup_steps=10,
    ),
    "digits": _SMALL,
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
    "flowers": _papers("oxford_flowers102", "R152x2_T_flowers128", table4("flowers")),
    "pets": _papers(
        "oxford_iiit_pet", "R152x2_T_pet128", table4("pets"), other_epochs=1_000
    ),
    "food": _papers("food101", "R152x2_T_food128", table4("food")),
    "sun": _papers("sun397", "R152x2_T_sun128", table4("sun")),
    "imagenet": _papers("imagenet2012", "R152x2_T_224", _imagenet(), **_IMAGENET),
    # Section 3.3 and the ensemble of section 3.6.
    "imagenet_160": _papers(
        "imagenet2012",
        "R152x2_T_224",
        _imagenet("mix at 160 pixels"),
        **_IMAGENET
        | {"student_size": 160, "main": ("same/ic", "mix"), "other_arms": ()},
    ),
    "imagenet_384": _papers(
        "imagenet2012",
        "R152x2_T_384",
        _imagenet("mix from 384 pixels"),
        **_IMAGENET
        | {
            "stored_size": 440,
            "teacher_size": 384,
            "second_weights": "weights/R152x2_T_224.npz",
            "main": ("mix",),
            "other_arms": ("ensemble",),
            "other_epochs": 9_600,
        },
    ),
}


def name(arm: str, epochs: int) -> str:
    """The name of an arm at a length, in files and results.

    >>> name("fix/cc", 10)
    'fix-cc@10'
    """
    return f"{arm.replace('/', '-')}@{epochs}"
