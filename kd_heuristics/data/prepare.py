"""Downloads a set and writes it in a format that needs no TensorFlow to read."""

import importlib
import os
import shutil
import tarfile
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from etils import epath

from kd_heuristics.data import fashion_mnist, idx_files, tfds
from kd_heuristics.data.tfds import PrepareError
from kd_heuristics.runtime import nearest

# Download size in megabytes, for the message before it starts; None if the archives
# must be downloaded by hand.
DOWNLOADS: dict[str, int | None] = {
    "cifar10": 170,
    "cifar100": 169,
    fashion_mnist.NAME: 30,
    "oxford_flowers102": 345,
    "oxford_iiit_pet": 811,
    "food101": 4_996,
    "sun397": 39_096,
    "imagenet2012": None,
    "caltech_birds2011": 1_190,
}

# Packages that the tfds builders import beyond our own dependencies.
_NEEDS = dict.fromkeys(DOWNLOADS, ("tensorflow",)) | {
    "cifar10": (),
    "cifar100": (),
    fashion_mnist.NAME: (),
    "sun397": ("tensorflow", "cv2"),
    "caltech_birds2011": ("tensorflow", "cv2"),
}

_SIDE = 32  # pixels of CIFAR

# The labels of a CIFAR record, in byte order.
_LABELS = {"cifar10": ("label",), "cifar100": ("coarse_label", "label")}


def prepare(
    name_or_builder: Any,
    data_dir: str | os.PathLike[str] | None = None,
    log: Callable[[str], None] = print,
    source: str | os.PathLike[str] | None = None,
) -> epath.Path:
    """Prepares a set once, so that `data.load` finds it.

    Sets are stored as array_record, "fashion_mnist" as its four IDX files.

    tfds writes into an `incomplete.*` folder and renames it at the end. Folders left by
    an interruption are removed first, so a second attempt starts clean; finished
    downloads are kept. Do not prepare one set in two processes at once.

    Args:
      name_or_builder: one of `DOWNLOADS`, or a `tfds.core.DatasetBuilder`. All but
        "cifar10", "cifar100" and "fashion_mnist" need TensorFlow. Put the archives of
        "imagenet2012" by hand into the folder that the error names.
      data_dir: data directory of tfds; `None` uses TFDS_DATA_DIR, else
        ~/tensorflow_datasets. Do not give one for a builder, which has its own.
      log: receives a message before the work starts and one with the final folder.
      source: of "fashion_mnist" alone, the folder of its four IDX files; `None` takes
        those of Debian's package, or downloads them.

    Returns: the folder of the prepared set.

    Raises:
      ValueError: the name is unknown, `data_dir` is given with a builder, or `source`
        with another set.
      BadDataError: `source` lacks one of the published files; a ValueError.
      PrepareError: a package is missing, the download failed, or the set is there in
        another format or damaged.
    """
    if name_or_builder == fashion_mnist.NAME:
        return idx_files.prepare(data_dir, log, source)
    if source is not None:
        raise ValueError(
            f"{fashion_mnist.NAME} alone is prepared from a folder of IDX files, got "
            f"{source} for {name_or_builder}; leave it out"
        )
    builder = _builder(name_or_builder, data_dir)
    target = epath.Path(builder.data_dir)
    # The folder above name, configuration (if any) and version.
    where = tfds.how_to_find(target.parents[builder.info.full_name.count("/")])
    _clean(target)
    if target.exists():
        if not tfds.is_array_record(target):
            raise PrepareError(
                f"{target} holds {builder.name} in another format than array_record; "
                "move that folder away, or prepare into another one with --data-dir"
            )
        log(f"{builder.name} is prepared already, in {target}{where}")
        return target
    if isinstance(name_or_builder, str):
        _check_packages(builder.name)
    log(_announcement(builder.name, target))
    try:
        builder.download_and_prepare(file_format="array_record")
    # tfds passes on any error of sockets, archives, checksums and packages.
    except Exception as error:
        raise PrepareError(_explain(builder.name, error)) from error
    log(f"{builder.name} lies in {target}{where}")
    return target


def _builder(name_or_builder, data_dir):
    """Returns the tfds builder of a name, or the given builder."""
    if not isinstance(name_or_builder, str):
        if data_dir is not None:
            raise ValueError(
                f"the builder prepares into {name_or_builder.data_dir}, not into "
                f"data_dir={data_dir}; create the builder with that data_dir"
            )
        return name_or_builder
    name = nearest.choose(name_or_builder, DOWNLOADS, "dataset to prepare")
    import tensorflow_datasets

    folder = tfds.data_dir() if data_dir is None else epath.Path(data_dir).expanduser()
    try:
        builder = tensorflow_datasets.builder_cls(name)(data_dir=folder)
    except Exception as error:  # tfds has no common error for damaged files
        raise PrepareError(
            f"{folder / name} is damaged ({error}); delete it and prepare it again"
        ) from error
    return _without_tensorflow(builder) if name in _LABELS else builder


def _without_tensorflow(builder):
    """Replaces the two steps of tfds' CIFAR builders that need TensorFlow.

    These steps unpack the archive, and read its files and encode the pixels as PNG.
    Keys, order and pixels stay those of tfds.
    """
    splits, labels = builder._split_generators, _LABELS[builder.name]
    builder._split_generators = lambda manager: splits(_Downloads(manager))
    builder._generate_examples = lambda prefix, paths: _examples(prefix, paths, labels)
    return builder


def _examples(prefix: str, paths: Iterable[str], labels: Sequence[str]):
    """Yields the examples of CIFAR's binary files, with keys counted over all files.

    A record has one byte per label, then 32 x 32 bytes each of red, green and blue.
    """
    from PIL import Image

    key = 0
    for path in paths:
        records = np.frombuffer(epath.Path(path).read_bytes(), np.uint8)
        for record in records.reshape(-1, len(labels) + 3 * _SIDE**2):
            values, pixels = np.split(record, [len(labels)])
            pixels = pixels.reshape(3, _SIDE, _SIDE).transpose(1, 2, 0)
            # tfds lets Pillow encode a Pillow image.
            image = Image.fromarray(np.ascontiguousarray(pixels))
            yield (
                key,
                {
                    "id": f"{prefix}{key:05d}",
                    "image": image,
                    **dict(zip(labels, values.tolist(), strict=True)),
                },
            )
            key += 1


class _Downloads:
    """Implements the one method of tfds' download manager that CIFAR builders call."""

    def __init__(self, manager):
        self._manager = manager

    def download_and_extract(self, url: str) -> epath.Path:
        archive = epath.Path(self._manager.download(url))
        folder = archive.parent / f"{archive.name}.unpacked"
        # Unpack again, because an interruption may have left a partial folder.
        shutil.rmtree(folder, ignore_errors=True)
        with tarfile.open(archive) as tar:
            # Early releases of Python 3.11 have no filter.
            tar.extraction_filter = getattr(tarfile, "data_filter", lambda m, _: m)
            tar.extractall(folder)
        return folder


def _clean(target: epath.Path) -> None:
    """Removes incomplete folders of this version that an interruption left."""
    if target.exists() and not (target / "dataset_info.json").exists():
        target.rmtree()
    if target.parent.exists():
        for path in target.parent.iterdir():
            if path.name.startswith("incomplete.") and path.name.endswith(
                f"_{target.name}"
            ):
                path.rmtree()


def _announcement(name: str, target: epath.Path) -> str:
    """States what is prepared where and, if known, the download's size."""
    megabytes = DOWNLOADS.get(name)
    if megabytes is None:
        return f"preparing {name} in {target}"
    return (
        f"preparing {name} in {target}: {megabytes} MB to download, then about "
        f"{-(-megabytes // 200)} minutes to write as much again"
    )


def _check_packages(name: str) -> None:
    """Raises PrepareError before the download if a package to read it is missing."""
    for module in _NEEDS[name]:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise PrepareError(_missing(module, name)) from error


def _explain(name: str, error: BaseException) -> str:
    """Describes the failure in a sentence, with the remedy if it is known."""
    cause: BaseException | None = error
    while cause is not None:
        # tfds re-raises such errors with the name in the text only.
        if isinstance(cause, ModuleNotFoundError) and cause.name is not None:
            return _missing(cause.name, name)
        cause = cause.__cause__ or cause.__context__
    return (
        f"{name} could not be prepared ({type(error).__name__}: {error}); the same "
        "command again starts anew"
    )


def _missing(module: str, name: str) -> str:
    """Names a missing package and the command that installs it."""
    return (
        f"preparing {name} needs the package {module}: "
        'pip install "kd_heuristics[prepare]"'
    )
