"""Describes each set that tfds prepares, without reading it."""

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prepared:
    """Describes a set that tfds stores, with our splits.

    Attributes:
      base: name of the set in tfds and for `kd-heuristics prepare`.
      num_classes: expected number of classes.
      examples: number of examples of each of our splits, as published.
      splits: our split names to tfds' split expressions.
      side: side of all images in pixels; `None` if sizes vary.
      size: default side in pixels at which images are loaded.
      config: configuration of the tfds builder, which has its own folder; "" for none.
    """

    base: str
    num_classes: int
    examples: Mapping[str, int]
    splits: Mapping[str, str]
    side: int | None = None
    size: int = 128
    config: str = ""


def _held_out(last: int, first: int | None = None, test: str = "test"):
    """Returns splits that hold out the end of tfds' train, from `last` percent.

    Train ends at `first` percent, by default at `last`.
    """
    first = last if first is None else first
    return {
        "train": f"train[:{first}%]",
        "validation": f"train[{last}%:]",
        "test": test,
    }


_NAMED = {split: split for split in ("train", "validation", "test")}
_TWO = {"train": "train", "test": "test"}


def _cifar(base: str, num_classes: int) -> dict[str, Prepared]:
    """Returns CIFAR with 50,000 training images, and with the last 5,000 held out."""
    whole = Prepared(
        base=base,
        num_classes=num_classes,
        examples={"train": 50_000, "test": 10_000},
        splits=_TWO,
        side=32,
        size=32,
    )
    held_out = dataclasses.replace(
        whole,
        examples={"train": 45_000, "validation": 5_000, "test": 10_000},
        splits=_held_out(90),
    )
    return {base: whole, f"{base}_holdout": held_out}


def _numbers(train: int, validation: int, test: int) -> dict[str, int]:
    return {"train": train, "validation": validation, "test": test}


_BIRDS = Prepared(
    base="caltech_birds2011",
    num_classes=200,
    examples={"train": 5_994, "test": 5_794},
    splits=_TWO,
    size=224,
)
_IMAGENET = Prepared(
    base="imagenet2012",
    num_classes=1000,
    examples=_numbers(1_255_544, 25_623, 50_000),
    splits=_held_out(98, test="validation"),
    size=224,
)

# Keys are our names. Held-out images are the last in the order in which tfds stored
# them, which is shuffled. The splits are those of Beyer et al. 2022. If their released
# code has other splits, these have a name that ends in "_code". Their food101 test set
# is tfds' validation, its only held-out split.
SETS: dict[str, Prepared] = {
    **_cifar("cifar10", 10),
    **_cifar("cifar100", 100),
    "oxford_flowers102": Prepared(
        base="oxford_flowers102",
        num_classes=102,
        examples=_numbers(1_020, 1_020, 6_149),
        splits=_NAMED,
    ),
    "oxford_iiit_pet": Prepared(
        base="oxford_iiit_pet",
        num_classes=37,
        examples=_numbers(3_312, 368, 3_669),
        splits=_held_out(90),
    ),
    "food101": Prepared(
        base="food101",
        num_classes=101,
        examples=_numbers(68_175, 7_575, 25_250),
        splits=_held_out(90, test="validation"),
    ),
    "sun397": Prepared(
        base="sun397",
        num_classes=397,
        examples=_numbers(76_128, 10_875, 21_750),
        splits=_NAMED,
        config="tfds",
    ),
    "imagenet2012": _IMAGENET,
    # Trains on the same 98 %, but validates on the last 1 % only.
    "imagenet2012_code": dataclasses.replace(
        _IMAGENET,
        examples=_numbers(1_255_544, 12_812, 50_000),
        splits=_held_out(99, 98, test="validation"),
    ),
    "caltech_birds2011": _BIRDS,
    "caltech_birds2011_holdout": dataclasses.replace(
        _BIRDS, examples=_numbers(5_395, 599, 5_794), splits=_held_out(90)
    ),
}
