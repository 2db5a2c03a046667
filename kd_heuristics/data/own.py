"""Reads a user's own images: arrays, an ".npz" file or a folder of class folders."""

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, SupportsIndex

import numpy as np

from kd_heuristics.data import folders, image_layout
from kd_heuristics.data.dataset import Dataset
from kd_heuristics.data.images import central_square
from kd_heuristics.data.splits import SPLITS, BadDataError, parts
from kd_heuristics.runtime import files, values
from kd_heuristics.runtime.errors import first_line

_FORM = (
    "an .npz with train_images, train_labels, test_images and test_labels, or with "
    "images and labels"
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Own:
    """A user's set, opened but not read.

    Attributes:
      name: path as the user wrote it.
      examples: number of examples of each split.
      num_classes: number of classes.
      shape: `(height, width, channels)` of an image.
      read: `(split, size) -> (images, labels)`.
    """

    name: str
    examples: Mapping[str, int]
    num_classes: int
    shape: tuple[int, int, int]
    read: Callable[[str, int | None], tuple[np.ndarray, np.ndarray]]

    def load(self, split: str, size: int | None) -> Dataset:
        """Loads a split; with a size, cuts images to squares."""
        if split not in self.examples:
            raise BadDataError(
                f"{self.name} has no {split} split; it has {', '.join(self.examples)}"
            )
        images, labels = self.read(split, _checked(size))
        return Dataset(images, labels, self.num_classes, self.name)

    def sized(self, size: int | None) -> tuple[int, int, int]:
        """Returns the shape of a loaded image."""
        size = _checked(size)
        return self.shape if size is None else (size, size, self.shape[-1])


def from_arrays(
    images: Any, labels: Any, num_classes: SupportsIndex | None = None
) -> Dataset:
    """Makes a set from arrays in memory.

    Args:
      images: uint8 [n, h, w, c], or floats in [0, 1], which are rounded to the nearest
        of 256 levels; k / 255 becomes exactly k.
      labels: integers [n] in 0..num_classes - 1.
      num_classes: at least 2; `None` takes the highest label plus 1.

    Raises:
      ValueError: the arrays do not have this form; the message names the remedy.

    >>> two = from_arrays(np.ones((2, 8, 8, 1)), [0, 1])
    >>> two.images.max(), two.num_classes
    (np.uint8(255), 2)
    """
    images, labels = np.asarray(images), np.asarray(labels)
    _check_forms(images.shape, images.dtype, labels, "images", "labels")
    if num_classes is not None:
        num_classes = values.integer("num_classes", num_classes, 2)
    return Dataset(
        pixels(images, "images"), labels, _classes({"labels": labels}, num_classes)
    )


def split(dataset: Dataset) -> dict[str, Dataset]:
    """Splits a set as `load` splits an ".npz" file of one pair of arrays.

    Returns: "train", "validation" and "test"; a random tenth each for the last two, the
      same on every machine.

    Raises:
      BadDataError: the set has fewer than 10 images.

    >>> whole = from_arrays(np.ones((25, 8, 8, 1)), [0] * 24 + [1])
    >>> {name: len(part) for name, part in split(whole).items()}
    {'train': 21, 'validation': 2, 'test': 2}
    """
    what = f"the set {dataset.name!r}" if dataset.name else "the set"
    return {
        name: dataclasses.replace(
            dataset, images=dataset.images[rows], labels=dataset.labels[rows]
        )
        for name, rows in parts(len(dataset), what).items()
    }


def find(name: str) -> Own:
    """Opens a user's ".npz" file or folder of images and checks its form.

    Args:
      name: its path, local or in an object store; "~" is the home folder.

    Raises:
      BadDataError: the path does not exist, or its content has another form.
    """
    path = files.path(name)
    if not path.is_dir():
        return _npz(name, path)
    found = folders.find(path)
    return Own(
        name=name,
        examples=found.examples,
        num_classes=len(found.classes),
        shape=found.shape,
        read=found.read,
    )


def _npz(name: str, path: Any) -> Own:
    """Opens an ".npz" file; reads labels, and only the headers of images."""
    with _opened(path) as file:
        keys = _keys(path, file.files)
        labels = {split: file[key] for split, (_, key) in keys.items()}
        shapes = {}
        for split, (key, label_key) in keys.items():
            shapes[split], dtype = _header(file, key)
            what = (f"{key} of {path}", f"{label_key} of {path}")
            _check_forms(shapes[split], dtype, labels[split], *what)
    if len({shape[1:] for shape in shapes.values()}) > 1:
        listed = ", ".join(f"{split} {shape[1:]}" for split, shape in shapes.items())
        raise BadDataError(f"images of {path} must have one shape, got {listed}")
    named = {f"{keys[split][1]} of {path}": found for split, found in labels.items()}
    (_, height, width, channels), *_ = shapes.values()
    whole = "" in keys
    counts = {split: len(found) for split, found in labels.items()}
    rows = parts(counts[""], str(path)) if whole else {}

    def read(split, size):
        key = keys["" if whole else split][0]
        with _opened(path) as file:
            images, own = file[key], labels["" if whole else split]
        if whole:
            images, own = images[rows[split]], own[rows[split]]
        images = pixels(images, f"{key} of {path}")
        if size is not None:
            images = np.stack([central_square(image, size) for image in images])
        return images, own

    return Own(
        name=name,
        examples={split: len(own) for split, own in rows.items()} if whole else counts,
        num_classes=_classes(named),
        shape=(height, width, channels),
        read=read,
    )


@contextlib.contextmanager
def _opened(path: Any) -> Iterator[Any]:
    """Opens an ".npz" file; errors of zipfile and NumPy become BadDataError."""
    if not path.exists():
        raise BadDataError(f"there is no {path}; it must be {_FORM}")
    try:
        # np.load, given a path, leaves a damaged file open.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            yield file
    except BadDataError:
        raise
    except Exception as error:  # zipfile, zlib and NumPy each raise their own
        raise BadDataError(f"{path} must be {_FORM} ({first_line(error)})") from error


def _keys(path: Any, found: list[str]) -> dict[str, tuple[str, str]]:
    """Returns the keys of images and labels by split; "" for one pair to be split."""
    prefixes = {split: f"{split}_" for split in SPLITS}
    if not any(key.startswith(tuple(prefixes.values())) for key in found):
        prefixes = {"": ""}
    keys = {
        split: (f"{prefix}images", f"{prefix}labels")
        for split, prefix in prefixes.items()
        if split != "validation" or any(key.startswith(prefix) for key in found)
    }
    missing = [key for pair in keys.values() for key in pair if key not in found]
    if missing:
        raise BadDataError(
            f"{path} must be {_FORM}; it has {', '.join(found) or 'no arrays'}, so "
            f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing"
        )
    return keys


def _header(file: Any, key: str) -> tuple[tuple[int, ...], np.dtype]:
    """Returns shape and type of an array in an ".npz" file, without reading it."""
    with file.zip.open(f"{key}.npy") as stream:
        version = np.lib.format.read_magic(stream)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, _, dtype = read(stream)
    return shape, dtype


def _check_forms(shape, dtype, labels: np.ndarray, images_are: str, labels_are: str):
    """Raises BadDataError unless these are images with one label each."""
    if len(shape) < 2 and labels.ndim > 2:
        raise BadDataError(
            f"{images_are} are {list(shape)} and {labels_are} {list(labels.shape)}: "
            "they are swapped; exchange them"
        )
    if len(shape) == 3:
        raise BadDataError(
            f"{images_are} must be [n, height, width, channels], got {shape}; give "
            "grey images a channel axis by images[..., None]"
        )
    try:
        image_layout.check(shape, images_are)
        image_layout.check_labels(labels, labels_are)
    except ValueError as error:
        raise BadDataError(str(error)) from error
    if dtype != np.uint8 and not np.issubdtype(dtype, np.floating):
        raise BadDataError(
            f"{images_are} must be uint8, or floats in [0, 1], got {dtype}; convert "
            "integers in 0..255 by images.astype('uint8')"
        )
    if shape[0] != len(labels):
        raise BadDataError(
            f"{images_are} number {shape[0]}, but {labels_are} {len(labels)}; give "
            "each image one label"
        )
    if 0 in shape:
        raise BadDataError(f"{images_are} hold no pixels: their shape is {shape}")


def _classes(labels: Mapping[str, np.ndarray], num_classes: int | None = None) -> int:
    """Returns the number of classes: as given, or the highest first label plus 1.

    Raises: BadDataError for a single class, and for labels outside the classes.
    """
    first, *_ = labels
    count = num_classes or max(int(labels[first].max()), 0) + 1
    for what, own in labels.items():
        lowest, highest = int(own.min()), int(own.max())
        if lowest < 0 or highest >= count:
            like = "" if num_classes or what == first else f", as {first} do"
            raise BadDataError(
                f"{what} must lie in 0..{count - 1}{like}, got {lowest}..{highest}; "
                "number the classes from 0"
            )
        if lowest == highest and what == first and not num_classes:
            raise BadDataError(
                f"{first} name one class, {lowest}; a classifier needs at least two"
            )
    return count


def pixels(images: np.ndarray, what: str) -> np.ndarray:
    """Converts images to uint8; floats in [0, 1] become the nearest of 256 levels."""
    if images.dtype == np.uint8:
        return images
    lowest, highest = images.min(), images.max()
    if not 0 <= lowest <= highest <= 1:  # nor NaN
        raise BadDataError(
            f"{what} are floats and must lie in [0, 1], got "
            f"{float(lowest):g}..{float(highest):g}; rescale them, or save uint8 pixels"
        )
    return np.rint(images * images.dtype.type(255)).astype(np.uint8)


def _checked(size: int | None) -> int | None:
    return None if size is None else values.integer("size", size, 1)


def is_path(name: str) -> bool:
    """Whether a name that no set has is a path to a user's own images.

    >>> is_path("photos.npz"), is_path("./photos"), is_path("cifar11")
    (True, True, False)
    """
    return name.endswith(".npz") or "/" in name or os.path.isdir(name)
