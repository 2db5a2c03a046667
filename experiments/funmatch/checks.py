"""Checks of the FunMatch study's config: its sets, and its files of weights."""

import re
from typing import Any

from experiments.funmatch.arms import ARMS
from kd_heuristics import data
from kd_heuristics.runtime import files


def sets(config: Any) -> None:
    """Raises ValueError if the sets do not fit each other, or how they are read."""
    own = data.describe(config.dataset, config.stored_size)
    if "validation" not in own.examples:
        raise ValueError(
            f"dataset must have a validation split, got {config.dataset} with "
            f"{', '.join(own.examples)}; add one, or take a set that has one"
        )
    images = {ARMS[arm].images for arm in config.arms} - {"own"}
    other_sets = {"others": config.others, "related": config.related}
    for field in sorted(images):
        if other_sets[field] is None:
            raise ValueError(
                f"the arm {field!r} needs a dataset of similar images in the field "
                f"{field}; give one, or leave the arm out"
            )
    for field, other in other_sets.items():
        if other is None:
            continue
        shape = data.describe(other, config.stored_size).shape
        if field in images and shape[-1] != own.shape[-1]:
            raise ValueError(
                f"{field} must have images of {own.shape[-1]} channels, as "
                f"{config.dataset} has, got {other} with {shape[-1]}; give another "
                f"set, or leave the arm {field!r} out"
            )
    if not config.streamed:
        return
    for name in (config.dataset, *(other_sets[field] for field in images)):
        if name is not None and not data.is_prepared(name):
            raise ValueError(
                f"streamed reads sets that tfds prepared, got {name}, which is "
                "read whole; leave streamed out (--no-streamed)"
            )
    for field in ("train_examples", "teacher_examples"):
        if getattr(config, field) is not None:
            raise ValueError(
                f"streamed trains on all images, so {field} must be None, got "
                f"{getattr(config, field)}"
            )


def weights(config: Any) -> None:
    """Raises ValueError if a file of weights that the arms need is missing."""
    needed = {"teacher_weights": True}
    needed["second_weights"] = config.has(ensemble=True)
    needed["student_weights"] = config.has(init="pretrained")
    for field, used in needed.items():
        path = getattr(config, field)
        if used and path is not None and not files.path(path).is_file():
            raise ValueError(
                f"{field}: there is no file {path!r}; download it from "
                "gs://bit_models as README.md says, or give the path of another file"
            )


def resolution(field: str, weights: str | None, size: int) -> None:
    """Raises ValueError if a released file has another resolution than its network."""
    named = re.search(r"(\d{2,})\.npz$", weights or "")
    if named and int(named[1]) != size:
        raise ValueError(
            f"{field} {weights} are of {named[1]} pixels a side, and the network sees "
            f"{size}; give the file for {size} pixels, or set the size to {named[1]}"
        )
