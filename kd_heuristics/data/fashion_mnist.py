"""Loads Fashion-MNIST, 70,000 grey images of clothes, from its four IDX files.

Xiao et al. 2017, "Fashion-MNIST: a novel image dataset for benchmarking machine
learning algorithms"; MIT licence. `kd-heuristics prepare fashion_mnist` stores the
files, and Debian's package dataset-fashion-mnist brings them. They are read without
TensorFlow, and every byte is checked against the published ones.
"""

import dataclasses
import hashlib
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath

from kd_heuristics.data import idx, tfds
from kd_heuristics.data.dataset import Dataset

NAME = "fashion_mnist"
HOLDOUT = f"{NAME}_holdout"
NUM_CLASSES = 10
SIDE = 28  # pixels
SIZES = range(SIDE, 33)  # sides of padded images
PACKAGE = "dataset-fashion-mnist"
DEBIAN = epath.Path("/usr/share/datasets/fashion-mnist")  # the package's folder


@dataclasses.dataclass(frozen=True)
class File:
    """One of the four files.

    Attributes:
      name: as published; the ending ".gz" may be left out.
      shape: of its values.
      sha256: of the file, decompressed.
    """

    name: str
    shape: tuple[int, ...]
    sha256: str


FILES: Mapping[str, tuple[File, File]] = {
    "train": (
        File(
            "train-images-idx3-ubyte.gz",
            (60_000, SIDE, SIDE),
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        ),
        File(
            "train-labels-idx1-ubyte.gz",
            (60_000,),
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        ),
    ),
    "test": (
        File(
            "t10k-images-idx3-ubyte.gz",
            (10_000, SIDE, SIDE),
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        ),
        File(
            "t10k-labels-idx1-ubyte.gz",
            (10_000,),
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
    ),
}
EXAMPLES = {
    NAME: {"train": 60_000, "test": 10_000},
    HOLDOUT: {"train": 54_000, "validation": 6_000, "test": 10_000},
}


def load(name: str, split: str, size: int = SIDE) -> Dataset:
    """Loads a split: uint8 [n, size, size, 1].

    Args:
      name: `NAME`, or `HOLDOUT`, whose validation split is the last tenth of train.
      split: a key of `EXAMPLES[name]`.
      size: side in pixels; above 28, zeros (the images' background) frame the images.

    Raises:
      MissingDatasetError: the files are missing or are not the published ones.
    """
    place = find()
    try:
        images, labels = (
            read(place, file)[1]
            for file in FILES["test" if split == "test" else "train"]
        )
    except (OSError, idx.IdxError) as error:
        raise tfds.MissingDatasetError(f"{error}; {remedy(place)}") from error
    rows = slice(None)
    if name == HOLDOUT and split != "test":
        kept = len(labels) - len(labels) // 10
        rows = slice(kept) if split == "train" else slice(kept, None)
    return Dataset(
        _padded(images[rows], size)[..., None],
        labels[rows].astype(np.int32),
        NUM_CLASSES,
        name,
    )


def home(data_dir: epath.Path | None = None) -> epath.Path:
    """Returns where `kd-heuristics prepare` puts the files."""
    return (tfds.data_dir() if data_dir is None else data_dir) / NAME / "idx"


def find() -> epath.Path:
    """Returns the folder of the files: the prepared one, else that of Debian's package.

    Raises: MissingDatasetError if there is neither.
    """
    for place in (home(), DEBIAN):
        if place.exists():
            return place
    origin = "" if os.environ.get("TFDS_DATA_DIR") else " (TFDS_DATA_DIR is not set)"
    raise tfds.MissingDatasetError(
        f"{NAME} is not prepared: there is no {home()}{origin}. Prepare it once, or "
        f"install Debian's package {PACKAGE}:\n  kd-heuristics prepare {NAME}"
    )


def read(place: Any, file: File) -> tuple[bytes, np.ndarray]:
    """Returns the bytes of a file in a folder, and its values.

    The file's name may lack its ending ".gz".

    Raises: IdxError if it is missing or not the published one.
    """
    for name in (file.name, file.name.removesuffix(".gz")):
        if (place / name).exists():
            content = (place / name).read_bytes()
            return content, check(content, file, place / name)
    raise idx.IdxError(f"there is no {place / file.name}")


def check(content: bytes, file: File, name: Any) -> np.ndarray:
    """Returns the values of a file; raises IdxError unless it is the published one.

    Args:
      content: bytes of the file, as read.
      file: which it must be.
      name: of the file, for messages.
    """
    content = idx.unpacked(content, str(name))
    values = idx.parse(content, file.shape, str(name))
    if hashlib.sha256(content).hexdigest() != file.sha256:
        raise idx.IdxError(
            f"{name} differs from the published file of that name (SHA-256)"
        )
    return values


def _padded(images: np.ndarray, size: int) -> np.ndarray:
    """Frames images [n, 28, 28] with zeros; the surplus row is below and to the right.

    >>> _padded(np.ones((1, 28, 28), np.uint8), 31)[0, :3, 5].tolist()
    [0, 1, 1]
    """
    before = (size - SIDE) // 2
    frame = (before, size - SIDE - before)
    return np.pad(images, ((0, 0), frame, frame))


def remedy(place: Any) -> str:
    """Says how to replace the files of a folder."""
    if place == DEBIAN:
        return f"install them again:\n  apt-get install --reinstall {PACKAGE}"
    return f"delete {place} and prepare it again:\n  kd-heuristics prepare {NAME}"
