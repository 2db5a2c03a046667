"""Reads folders of class folders of PNG and JPEG images."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from kd_heuristics.data.images import central_square, decode
from kd_heuristics.data.splits import SPLITS, BadDataError, parts, shuffled
from kd_heuristics.runtime.errors import first_line

_IMAGES = (".png", ".jpg", ".jpeg")


@dataclasses.dataclass(frozen=True)
class Folder:
    """Files of each split, in a fixed random order, and their labels.

    Attributes:
      path: the folder.
      classes: sorted names of the class folders; a label is an index into them.
      found: `(file, label)` pairs of each split.
      shape: shape of the first training image.
    """

    path: Any
    classes: tuple[str, ...]
    found: Mapping[str, list[tuple[Any, int]]]
    shape: tuple[int, int, int]

    @property
    def examples(self) -> dict[str, int]:
        """Number of images in each split."""
        return {split: len(own) for split, own in self.found.items()}

    def read(self, split: str, size: int | None) -> tuple[np.ndarray, np.ndarray]:
        """Returns images, uint8 [n, h, w, 3], and labels of a split.

        Args:
          split: one of `examples`.
          size: side of the central square to which each image is cut; `None` keeps
            whole images.

        Raises: BadDataError for a broken image, or images of several sizes.
        """
        own = self.found[split]
        shape = self.shape if size is None else (size, size, 3)
        images = np.empty((len(own), *shape), np.uint8)
        for place, (file, _) in enumerate(own):
            pixels = _decoded(file)
            if size is not None:
                pixels = central_square(pixels, size)
            elif pixels.shape != shape:
                raise BadDataError(
                    f"images of {self.path} differ in size, {_words(pixels.shape)} in "
                    f"{file} and {_words(shape)} in {self.found['train'][0][0]}; "
                    "resize them, or give size to cut squares"
                )
            images[place] = pixels
        return images, np.array([label for _, label in own], np.int32)


def find(path: Any) -> Folder:
    """Lists a folder of class folders, or of train/, validation/ and test/ with them.

    Raises:
      BadDataError: no or too few images or classes, or files of another kind.
    """
    inner = _folders(path)
    names = {folder.name for folder in inner}
    if {"train", "test"} <= names <= {*SPLITS} and _folders(path / "train"):
        listed = {split: _by_class(path / split) for split in SPLITS if split in names}
        classes = tuple(listed["train"])
        for split, own in listed.items():
            unknown = sorted(own.keys() - {*classes})
            if unknown:
                raise BadDataError(
                    f"{path / split} has the class {unknown[0]!r}, which "
                    f"{path / 'train'} does not have; give both the same class folders"
                )
        flat = {split: _labelled(own, classes) for split, own in listed.items()}
        found = {
            split: [own[row] for row in shuffled(len(own))]
            for split, own in flat.items()
        }
    else:
        by_class = _by_class(path)
        classes = tuple(by_class)
        own = _labelled(by_class, classes)
        rows = parts(len(own), str(path))
        found = {split: [own[row] for row in rows[split]] for split in SPLITS}
    if len(classes) < 2:
        raise BadDataError(
            f"{path} has one class folder, {classes[0]!r}; a classifier needs at least "
            "two"
        )
    return Folder(path, classes, found, _decoded(found["train"][0][0]).shape)


def _folders(path: Any) -> list[Any]:
    """Returns visible subfolders, sorted by name."""
    inner = [own for own in path.iterdir() if not own.name.startswith(".")]
    return sorted((own for own in inner if own.is_dir()), key=lambda own: own.name)


def _by_class(path: Any) -> dict[str, list[Any]]:
    """Returns the images of each class folder, sorted by name."""
    found = {folder.name: _images(folder) for folder in _folders(path)}
    if not found:
        raise BadDataError(
            f"{path} must hold a folder of PNG or JPEG images for each class, or "
            "train and test folders of them; it holds no folders"
        )
    return found


def _images(folder: Any) -> list[Any]:
    """Returns the images of a class folder; raises BadDataError for other files."""
    found = [own for own in folder.iterdir() if not own.name.startswith(".")]
    for own in found:
        if own.suffix.lower() not in _IMAGES:
            raise BadDataError(
                f"{own} is not a PNG or JPEG image; class folders must hold only such "
                "images (.png, .jpg, .jpeg), and splits are train, validation and test"
            )
    if not found:
        raise BadDataError(f"{folder} holds no images; fill or remove that folder")
    return sorted(found, key=lambda own: own.name)


def _labelled(
    by_class: Mapping[str, list[Any]], classes: tuple[str, ...]
) -> list[tuple[Any, int]]:
    """Returns `(file, label)` pairs."""
    return [
        (file, classes.index(name)) for name, own in by_class.items() for file in own
    ]


def _decoded(file: Any) -> np.ndarray:
    try:
        return decode(file.read_bytes())
    except Exception as error:  # Pillow has no common error for damaged images
        raise BadDataError(
            f"{file} cannot be read as an image ({first_line(error)}); replace or "
            "remove it"
        ) from error


def _words(shape: tuple[int, ...]) -> str:
    return f"{shape[0]}x{shape[1]}"
