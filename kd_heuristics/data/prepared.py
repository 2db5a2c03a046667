"""What is known of each set that tfds prepares, without reading it."""

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prepared:
    """A set as tfds stores it, in our splits.

    Attributes:
      base: its name in tfds, and of `kd-heuristics prepare`.
      num_classes: how many its labels must tell apart.
      splits: what tfds calls the images of each of our splits.
      side: pixels a side of all images; None where sizes vary.
      size: pixels a side that they are usually shown at.
      config: of tfds' builder, a folder of its own; "" for none.
    """

    base: str
    num_classes: int
    splits: Mapping[str, str]
    side: int | None = None
    size: int = 128
    config: str = ""


def _held_out(last: int, first: int | None = None, test: str = "test"):
    """Splits that keep the end of tfds' train, from `last` per cent, for validation."""
    first = last if first is None else first
    return {
        "train": f"train[:{first}%]",
        "validation": f"train[{last}%:]",
        "test": test,
    }


_NAMED = {split: split for split in ("train", "validation", "test")}
_TWO = {"train": "train", "test": "test"}


def _cifar(base: str, num_classes: int) -> dict[str, Prepared]:
    """All 50,000 images in train, and with the last 5,000 of them held out."""
    whole = Prepared(base=base, num_classes=num_classes, splits=_TWO, side=32, size=32)
    return {
        base: whole,
        f"{base}_holdout": dataclasses.replace(whole, splits=_held_out(90)),
    }


_BIRDS = Prepared(base="caltech_birds2011", num_classes=200, splits=_TWO, size=224)
_IMAGENET = Prepared(
    base="imagenet2012",
    num_classes=1000,
    splits=_held_out(98, test="validation"),
    size=224,
)

# By our names. Held-out images are the last in the order in which tfds stored them,
# which it has shuffled. The splits are those of Beyer et al. 2022; where their released
# code has others, they are under a name that ends in "_code". Their food101 test set is
# what tfds calls validation: it has no other.
SETS: dict[str, Prepared] = {
    **_cifar("cifar10", 10),
    **_cifar("cifar100", 100),
    "oxford_flowers102": Prepared(
        base="oxford_flowers102", num_classes=102, splits=_NAMED
    ),
    "oxford_iiit_pet": Prepared(
        base="oxford_iiit_pet", num_classes=37, splits=_held_out(90)
    ),
    "food101": Prepared(
        base="food101", num_classes=101, splits=_held_out(90, test="validation")
    ),
    "sun397": Prepared(base="sun397", num_classes=397, splits=_NAMED, config="tfds"),
    "imagenet2012": _IMAGENET,
    # Trains on the same 98 %, but looks at the last 1 % only.
    "imagenet2012_code": dataclasses.replace(
        _IMAGENET, splits=_held_out(99, 98, test="validation")
    ),
    "caltech_birds2011": _BIRDS,
    "caltech_birds2011_holdout": dataclasses.replace(_BIRDS, splits=_held_out(90)),
}
