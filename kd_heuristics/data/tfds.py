"""CIFAR as TensorFlow Datasets prepared it, read into memory without TensorFlow.

The sets lie where tfds has them: in TFDS_DATA_DIR, else in ~/tensorflow_datasets, as
<set>/<version>/. Only the format array_record can be read without TensorFlow;
`kd-heuristics prepare` writes it.
"""

import io
import os
from typing import Any

import numpy as np
from etils import epath

from kd_heuristics.data.dataset import Dataset

SIDE = 32  # pixels
NUM_CLASSES = {"cifar10": 10, "cifar100": 100}

# What tfds calls the splits of each of our names. A tenth of the 50,000 training images
# is held out: the last 5,000 in the order tfds stored them, which it has shuffled.
_PAPERS = {"train": "train", "test": "test"}
_HOLDOUT = {"train": "train[:90%]", "validation": "train[90%:]", "test": "test"}
SPLITS = dict.fromkeys(NUM_CLASSES, _PAPERS) | {
    f"{name}_holdout": _HOLDOUT for name in NUM_CLASSES
}


class MissingDatasetError(FileNotFoundError):
    """A set is not where it should lie, or unreadable; the message has the remedy."""


def load(name: str, split: str) -> Dataset:
    """One split of a prepared set, with all images in memory (150 MB for 50,000).

    Args:
      name: a key of `SPLITS`.
      split: a key of `SPLITS[name]`.

    Raises:
      MissingDatasetError: the set was not prepared, was prepared in another format, or
        is damaged.
    """
    base = name.removesuffix("_holdout")
    directory = find(base)
    import tensorflow_datasets as tfds  # a second of import, for these sets only

    try:
        builder = tfds.builder_from_directory(directory)
        # Left encoded: tfds would decode with OpenCV, or warn that there is none.
        encoded: Any = {"image": tfds.decode.SkipDecoding()}
        source = builder.as_data_source(split=SPLITS[name][split], decoders=encoded)
        images, labels = _read(source)
    except ImportError:
        raise
    # tfds, array_record and Pillow have no common error for damaged files.
    except Exception as error:
        raise MissingDatasetError(
            f"{base} in {directory} cannot be read ({_first_line(error)}); delete that "
            f"folder and prepare it again:\n{remedy(base)}"
        ) from error
    return Dataset(images, labels, NUM_CLASSES[base], name)


def data_dir() -> epath.Path:
    """Where tfds keeps its sets."""
    default = "~/tensorflow_datasets"
    return epath.Path(os.environ.get("TFDS_DATA_DIR") or default).expanduser()


def find(name: str) -> epath.Path:
    """The folder of a prepared set: of its versions in array_record, the newest.

    Raises:
      MissingDatasetError: there is none.
    """
    folder = data_dir() / name
    versions = sorted(prepared_versions(folder), key=_version)
    readable = [path for path in versions if is_array_record(path)]
    if readable:
        return readable[-1]
    if versions:
        raise MissingDatasetError(
            f"{name} in {versions[-1]} was prepared in another format than "
            "array_record, the one that is read without TensorFlow. Move that folder "
            "away, or set TFDS_DATA_DIR to another one, and prepare it again:\n"
            + remedy(name)
        )
    origin = "" if os.environ.get("TFDS_DATA_DIR") else " (TFDS_DATA_DIR is not set)"
    raise MissingDatasetError(
        f"{name} is not prepared: there is no {folder}/<version>{origin}. Prepare it "
        f"once:\n{remedy(name)}"
    )


def remedy(name: str) -> str:
    """The command that prepares a set."""
    return f"  kd-heuristics prepare {name}"


def prepared_versions(folder: epath.Path) -> list[epath.Path]:
    """The versions of a set that tfds finished preparing, unordered."""
    if not folder.exists():
        return []
    return [path for path in folder.iterdir() if (path / "dataset_info.json").exists()]


def is_array_record(version: epath.Path) -> bool:
    """Whether a prepared version can be read without TensorFlow."""
    return any(".array_record" in path.name for path in version.iterdir())


def _version(path: epath.Path) -> tuple[int, ...]:
    return tuple(int(part) if part.isdigit() else -1 for part in path.name.split("."))


def _read(source) -> tuple[np.ndarray, np.ndarray]:
    from PIL import Image

    images = np.empty((len(source), SIDE, SIDE, 3), np.uint8)
    labels = np.empty(len(source), np.int32)
    for index, example in enumerate(source):
        images[index] = np.asarray(Image.open(io.BytesIO(example["image"])))
        labels[index] = example["label"]
    return images, labels


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
