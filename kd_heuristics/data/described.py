"""Describes sets of tfds: ours by name, and any "tfds:NAME" from its files."""

import functools
from typing import Any

from kd_heuristics.data import tfds
from kd_heuristics.data.prepared import SETS, Prepared
from kd_heuristics.data.splits import SPLITS, BadDataError
from kd_heuristics.runtime import nearest

PREFIX = "tfds:"


def is_prepared(name: str) -> bool:
    """Whether tfds prepares the set of a name, so that `stream` reads it.

    >>> is_prepared("cifar10"), is_prepared("tfds:mnist"), is_prepared("digits")
    (True, True, False)
    """
    return name in SETS or name.startswith(PREFIX)


def entry(name: str) -> Prepared:
    """Returns the description of a set in `prepared.SETS`, or "tfds:NAME[:CONFIG]".

    The latter is read from the folder where tfds prepared the set. It keeps the splits
    of tfds; without a validation split, the last tenth of train becomes one. If all
    images have one size, that is the default size.

    Raises:
      ValueError: the name is unknown.
      MissingDatasetError: tfds has not prepared the set as array_record.
      BadDataError: it has no training split, images or labels.
    """
    if not name.startswith(PREFIX):
        return SETS[nearest.choose(name, SETS, "prepared dataset")]
    base, _, config = name.removeprefix(PREFIX).partition(":")
    if not base or ":" in config or "/" in base + config:
        raise BadDataError(
            f"unknown dataset {name!r}; write tfds:NAME or tfds:NAME:CONFIG"
        )
    folder = tfds.data_dir() / base
    if not config and folder.exists() and not tfds.prepared_versions(folder):
        configs = [own.name for own in folder.iterdir() if tfds.prepared_versions(own)]
        if configs:
            raise BadDataError(
                f"{name} has configurations; name one of them: "
                + ", ".join(f"{name}:{own}" for own in sorted(configs))
            )
    return _entry(name, base, config, tfds.find(base, config))


@functools.lru_cache
def _entry(name: str, base: str, config: str, folder: Any) -> Prepared:
    """Describes a prepared set from the files in its folder."""
    import tensorflow_datasets  # takes a second, so only these sets import it

    with tfds.reading(base, folder):
        info = tensorflow_datasets.builder_from_directory(folder).info
    features = dict(info.features.items()) if hasattr(info.features, "items") else {}
    image, label = features.get("image"), features.get("label")
    kinds = tensorflow_datasets.features
    if not isinstance(image, kinds.Image) or not isinstance(label, kinds.ClassLabel):
        listed = ", ".join(sorted(features)) or "of no dictionary"
        raise BadDataError(
            f"{name} has the features {listed}; "
            'a set needs an "image" and its class as "label"'
        )
    splits = {split: split for split in SPLITS if split in info.splits}
    if "train" not in splits:
        raise BadDataError(
            f"{name} has the splits {', '.join(sorted(info.splits))}; a set needs train"
        )
    if "validation" not in splits:
        splits |= {"train": "train[:90%]", "validation": "train[90%:]"}
    height, width, _ = image.shape
    return Prepared(
        base=base,
        num_classes=label.num_classes or 0,
        examples={
            split: info.splits[own].num_examples for split, own in splits.items()
        },
        splits=splits,
        size=min(height, width) if height and width else Prepared.size,
        config=config,
    )
