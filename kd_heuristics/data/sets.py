"""Loads sets by name and describes each without reading it."""

import dataclasses
import functools
import os
from collections.abc import Callable, Mapping
from typing import Any

from kd_heuristics.data import (
    described,
    digits,
    fashion_mnist,
    own,
    photo,
    prepared,
    records,
    tfds,
)
from kd_heuristics.data.dataset import Dataset
from kd_heuristics.data.splits import SPLITS
from kd_heuristics.runtime import files, nearest


@dataclasses.dataclass(frozen=True)
class _Set:
    """Describes a set; `flip` says whether mirroring preserves the labels."""

    examples: Mapping[str, int]  # of each split
    num_classes: int
    channels: int
    sizes: range  # pixels a side
    default_size: int
    read: Callable[[str, int], Dataset]
    flip: bool
    no_split: str = ""  # message that explains why a split is missing
    find: Callable[[], Any] = lambda: None  # its folder, if it has one


Name = str | os.PathLike[str]

_DIGITS = {"train": 1_197, "validation": 200, "test": 400}
_PHOTOS = {split: 4 * number for split, number in _DIGITS.items()}
_SHOWN = range(8, 513)  # sides in pixels, for sets whose images vary in size
_NO_VALIDATION = (
    "{name} has all images but those of the test set in train, as published, so it has "
    "no validation split; {holdout} keeps the last tenth of them apart for it"
)


def _prepared(name: str) -> _Set:
    """Makes the entry of a set that tfds prepares; another than ours is not flipped."""
    entry = described.entry(name)
    side = entry.side
    named = name in prepared.SETS
    missing = _NO_VALIDATION if named else "{name} has no test split, nor has tfds"
    holdout = f"{entry.base}_holdout"
    return _Set(
        examples=entry.examples,
        num_classes=entry.num_classes,
        channels=3,
        sizes=_SHOWN if side is None else range(side, side + 1),
        default_size=entry.size,
        read=functools.partial(records.load, name),
        flip=named,
        no_split=missing.format(name=name, holdout=holdout),
        find=functools.partial(tfds.find, entry.base, entry.config),
    )


def _fashion_mnist(name: str) -> _Set:
    """Makes the entry of Fashion-MNIST, with or without a holdout."""
    return _Set(
        examples=fashion_mnist.EXAMPLES[name],
        num_classes=fashion_mnist.NUM_CLASSES,
        channels=1,
        sizes=fashion_mnist.SIZES,
        default_size=fashion_mnist.SIDE,
        read=functools.partial(fashion_mnist.load, name),
        flip=True,
        no_split=_NO_VALIDATION.format(name=name, holdout=fashion_mnist.HOLDOUT),
        find=fashion_mnist.find,
    )


_SETS = {
    "digits": _Set(_DIGITS, 10, 1, range(8, 513), 8, digits.load, flip=False),
    "digits_photo": _Set(
        _PHOTOS, 10, 3, photo.SIZES, photo.SIDE, photo.load, flip=False
    ),
    "photo_patches": _Set(
        _PHOTOS, 0, 3, photo.SIZES, photo.SIDE, photo.load_patches, flip=False
    ),
    **{name: _fashion_mnist(name) for name in fashion_mnist.EXAMPLES},
    **{name: _prepared(name) for name in prepared.SETS},
}


def _find(name: str) -> "_Set | own.Own":
    """Returns the set of a name, a path or "tfds:NAME"; raises ValueError if none."""
    if name in _SETS:
        return _SETS[name]
    if name.startswith(described.PREFIX):
        return _prepared(name)
    if own.is_path(name):
        return own.find(name)
    return _SETS[nearest.choose(name, names(), "dataset")]


def load(name: Name, split: str, size: int | None = None) -> Dataset:
    """Loads one split of a set into memory.

    | name | train | validation | test | pixels |
    |---|---|---|---|---|
    | digits | 1,197 | 200 | 400 | 8×8×1, `size` 8..512 |
    | digits_photo | 4,788 | 800 | 1,600 | 32×32×3, `size` 8..128 |
    | photo_patches | 4,788 | 800 | 1,600 | as digits_photo; no labels |
    | fashion_mnist | 60,000 | none | 10,000 | 28×28×1, `size` 29..32 pads with zeros |
    | fashion_mnist_holdout | 54,000 | 6,000 | 10,000 | " |
    | cifar10, cifar100 | 50,000 | none | 10,000 | 32×32×3 |
    | cifar10_holdout, cifar100_holdout | 45,000 | 5,000 | 10,000 | 32×32×3 |
    | oxford_flowers102 | 1,020 | 1,020 | 6,149 | 128×128×3, `size` 8..512 |
    | oxford_iiit_pet | 3,312 | 368 | 3,669 | " |
    | food101 | 68,175 | 7,575 | 25,250 | " |
    | sun397 | 76,128 | 10,875 | 21,750 | " |
    | imagenet2012 | 1,255,544 | 25,623 | 50,000 | 224×224×3, `size` 8..512 |
    | imagenet2012_code | as before | 12,812 | 50,000 | " |
    | caltech_birds2011 | 5,994 | none | 5,794 | " |
    | caltech_birds2011_holdout | 5,395 | 599 | 5,794 | " |

    A path to an ".npz" file or to a folder of class folders reads your own images, and
    "tfds:NAME" or "tfds:NAME:CONFIG" any labelled images that tfds prepared: see
    docs/own_data.md.

    The first three come with the package, with identical bytes on every machine. The
    others are read from where `kd-heuristics prepare` put them, Fashion-MNIST also from
    Debian's package dataset-fashion-mnist. If images vary in size,
    `load` returns the central square of each, resized; `stream` crops the originals.

    Args:
      name: one of `names()`, a path, or "tfds:NAME[:CONFIG]".
      split: "train", "validation" or "test".
      size: side in pixels; `None` uses the set's default. Own images are cut to their
        central square.

    Raises:
      ValueError: the name, split or size is unknown; raised before anything is read.
      BadDataError: own images or labels have another form; a ValueError.
      MissingDatasetError: the set is not prepared, or only in a format that needs
        TensorFlow to read; the message has the command that prepares it.

    >>> load("digits", "validation").images.shape
    (200, 8, 8, 1)
    """
    name = os.fspath(name)
    entry = _find(name)
    if isinstance(entry, own.Own):
        return entry.load(nearest.choose(split, SPLITS, f"split of {name}"), size)
    if split in SPLITS and split not in entry.examples:
        raise ValueError(entry.no_split)
    nearest.choose(split, tuple(entry.examples), f"split of {name}")
    return entry.read(split, _size(name, entry, size))


@dataclasses.dataclass(frozen=True)
class Description:
    """Size and shape of a set.

    Attributes:
      examples: number of examples of each split.
      num_classes: number of classes.
      shape: `(height, width, channels)` of an image.
    """

    examples: Mapping[str, int]
    num_classes: int
    shape: tuple[int, int, int]


def describe(name: Name, size: int | None = None) -> Description:
    """Describes a set without reading it; a named set need not be prepared.

    For own images, it reads the headers and labels of an ".npz" file, or lists a
    folder.

    Args:
      name: as in `load`.
      size: side in pixels; `None` uses the set's default.

    Raises:
      ValueError, BadDataError, MissingDatasetError: as in `load`.

    >>> describe("cifar10").examples["train"], describe("cifar10").shape
    (50000, (32, 32, 3))
    """
    name = os.fspath(name)
    entry = _find(name)
    if isinstance(entry, own.Own):
        return Description(entry.examples, entry.num_classes, entry.sized(size))
    side = _size(name, entry, size)
    shape = (side, side, entry.channels)
    return Description(entry.examples, entry.num_classes, shape)


def find(name: Name) -> Any:
    """Returns where a set's images lie, without reading them.

    `None` stands for a set that comes with the package.

    Args:
      name: as in `load`.

    Raises:
      ValueError, BadDataError, MissingDatasetError: as in `load`.

    >>> find("digits") is None
    True
    """
    name = os.fspath(name)
    entry = _find(name)
    return files.path(name) if isinstance(entry, own.Own) else entry.find()


def names() -> tuple[str, ...]:
    """Lists the sets that `load` has by name.

    >>> "digits_photo" in names()
    True
    """
    return tuple(_SETS)


def default_augmentation(name: Name, size: int | None = None) -> dict[str, int | bool]:
    """Returns the usual augmentation of a set for `train_batches`: padding and flip.

    Padding is an eighth of the side, which is 4 at 32 pixels. Digits are never
    mirrored, because a mirrored digit is not a digit. Own images, and those of
    "tfds:NAME", are not mirrored either, because mirroring may change their class.

    Args:
      name: as in `load`.
      size: side in pixels; `None` uses the set's default.

    Raises:
      ValueError, BadDataError, MissingDatasetError: as in `load`.

    >>> default_augmentation("cifar10"), default_augmentation("digits")
    ({'padding': 4, 'flip': True}, {'padding': 1, 'flip': False})
    """
    name = os.fspath(name)
    entry = _find(name)
    if isinstance(entry, own.Own):
        return {"padding": min(entry.sized(size)[:2]) // 8, "flip": False}
    return {"padding": _size(name, entry, size) // 8, "flip": entry.flip}


def _size(name: str, entry: _Set, size: int | None) -> int:
    """Checks the size and resolves `None` to the set's default."""
    sizes = entry.sizes
    if size is None:
        return entry.default_size
    if size not in sizes:
        closest = min(max(size, sizes[0]), sizes[-1])
        valid = f"{sizes[0]}..{sizes[-1]}" if len(sizes) > 1 else f"{sizes[0]}"
        raise ValueError(
            f"unknown size of {name} {size!r}; did you mean {closest}? Valid: {valid}"
        )
    return int(size)
