"""A user's own arrays as the data of a command: tokens, tables, images of any task."""

import dataclasses
from typing import Any

import numpy as np

from kd_heuristics import data
from kd_heuristics.data import image_layout, own, splits
from kd_heuristics.runtime import files
from kd_heuristics.runtime.errors import InputError, first_line

INPUTS = ("images", "tokens", "inputs")  # of the network; one of these is there
_FORM = (
    "an .npz with train_NAME and test_NAME for each array, or NAME alone to be split, "
    f"of which one NAME is {', '.join(INPUTS[:-1])} or {INPUTS[-1]}"
)


@dataclasses.dataclass(frozen=True, eq=False)
class Arrays:
    """A set for a metric of any kind.

    Attributes:
      name: as the user gave it.
      key: name of the network's inputs among the arrays.
      train: arrays [examples, ...] by name.
      test: likewise.
    """

    name: str
    key: str
    train: dict[str, np.ndarray]
    test: dict[str, np.ndarray]

    @property
    def num_classes(self) -> int | None:
        """One more than the highest training label; None without integer labels [n]."""
        labels = self.train.get("labels")
        if labels is None or labels.ndim != 1 or labels.dtype.kind not in "iu":
            return None
        return int(labels.max()) + 1


def of_datasets(train: data.Dataset, test: data.Dataset) -> Arrays:
    """Returns the images and labels of a set."""
    both = ({"images": its.images, "labels": its.labels} for its in (train, test))
    return Arrays(train.name, "images", *both)


def is_file(name: str) -> bool:
    """Whether a name is an ".npz" file that exists."""
    return name.endswith(".npz") and files.path(name).exists()


def has(name: str) -> bool:
    """Whether a name is an ".npz" file of tokens or tables, without images."""
    if not is_file(name):
        return False
    try:
        with files.path(name).open("rb") as stream, np.load(stream) as file:
            names = {_part(key)[1] for key in file.files}
    except Exception:  # of any damaged file, which `data.load` refuses in words
        return False
    return "images" not in names and bool(names.intersection(INPUTS))


def read(name: str) -> Arrays:
    """Reads a user's ".npz" file.

    Raises: InputError if it is damaged, or its arrays do not fit each other.
    """
    path = files.path(name)
    try:
        found = files.read_arrays(path)
    except Exception as error:  # zipfile, zlib and NumPy each raise their own
        raise InputError(f"{path} must be {_FORM} ({first_line(error)})") from error
    sets: dict[str, dict[str, np.ndarray]] = {}
    for key, array in found.items():
        part, rest = _part(key)
        sets.setdefault(part, {})[rest] = array
    if [*sets] == [""]:
        _check(path, "", sets[""])
        rows = splits.parts(len(next(iter(sets[""].values()))), str(path))
        sets = {s: {k: v[rows[s]] for k, v in sets[""].items()} for s in rows}
    missing = [part for part in ("train", "test") if part not in sets]
    if missing:
        raise InputError(
            f"{path} must be {_FORM}; it has {', '.join(found) or 'no arrays'}"
        )
    train, test = (_check(path, f"{part}_", sets[part]) for part in ("train", "test"))
    _check_alike(path, train, test)
    key = next(key for key in INPUTS if key in train)
    return Arrays(name, key, train, test)


def _part(key: str) -> tuple[str, str]:
    """Splits "train_tokens" into split and name; the split is "" without one."""
    part, _, rest = key.partition("_")
    return (part, rest) if part in splits.SPLITS and rest else ("", key)


def _check(path: Any, prefix: str, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """Returns the arrays of a split, images as pixels; raise if they do not fit."""
    inputs = [key for key in INPUTS if key in arrays]
    if len(inputs) != 1 or "mask" in arrays:
        wrong = "mask, a name of the padding's" if "mask" in arrays else "none of these"
        found = " and ".join(inputs) if len(inputs) > 1 else wrong
        raise InputError(
            f"{path} must be {_FORM}; of {', '.join(prefix + key for key in arrays)}, "
            f"it has {found}"
        )
    counts = {prefix + key: (*array.shape, 0)[0] for key, array in arrays.items()}
    if len({*counts.values()}) > 1 or 0 in counts.values():
        raise InputError(
            f"arrays of {path} must have one entry an example, got "
            + ", ".join(f"{count} of {key}" for key, count in counts.items())
        )
    for key, array in arrays.items():
        if array.dtype.kind not in "biuf":
            raise InputError(
                f"{prefix}{key} of {path} must be numbers, got {array.dtype}; encode "
                "words as integers first"
            )
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise InputError(
                f"{prefix}{key} of {path} holds NaN or infinity; leave these examples "
                "out"
            )
    if inputs == ["images"]:
        what = f"{prefix}images of {path}"
        try:
            image_layout.check(arrays["images"].shape, what)
            return arrays | {"images": own.pixels(arrays["images"], what)}
        except ValueError as error:
            hint = "other numbers are called inputs, which reach the network unchanged"
            raise InputError(f"{error}; {hint}") from error
    return arrays


def _check_alike(path, train, test):
    """Raise InputError if the splits have other arrays, shapes or types."""
    if {*train} != {*test}:
        odd = sorted({*train} ^ {*test})
        raise InputError(
            f"{path} must have the same arrays in train and test; it has {odd[0]} in "
            f"{'train' if odd[0] in train else 'test'} only"
        )
    for key in train:
        ours, theirs = (
            f"{its[key].dtype} {list(its[key].shape[1:])}" for its in (train, test)
        )
        if ours != theirs:
            raise InputError(
                f"train_{key} of {path} holds {ours} for each example, but test_{key} "
                f"{theirs}; make them alike"
            )
