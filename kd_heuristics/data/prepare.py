"""Downloads a set and writes it in the format that is read without TensorFlow."""

import importlib
import os
import shutil
import tarfile
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from etils import epath

from kd_heuristics import nearest
from kd_heuristics.data import tfds

# Download in megabytes, for the message before it starts; None: by hand.
DOWNLOADS: dict[str, int | None] = {
    "cifar10": 170,
    "cifar100": 169,
    "oxford_flowers102": 345,
    "oxford_iiit_pet": 811,
    "food101": 4_996,
    "sun397": 39_096,
    "imagenet2012": None,
    "caltech_birds2011": 1_190,
}

# What tfds' builders of the others import, beside what is installed with us.
_NEEDS = dict.fromkeys(DOWNLOADS, ("tensorflow",)) | {
    "cifar10": (),
    "cifar100": (),
    "sun397": ("tensorflow", "cv2"),
    "caltech_birds2011": ("tensorflow", "cv2"),
}

_SIDE = 32  # pixels of CIFAR

# The labels of a record of CIFAR, in the order of the bytes.
_LABELS = {"cifar10": ("label",), "cifar100": ("coarse_label", "label")}


class PrepareError(Exception):
    """A set could not be prepared; the message has the remedy."""


def prepare(
    name_or_builder: Any,
    data_dir: str | os.PathLike[str] | None = None,
    log: Callable[[str], None] = print,
) -> epath.Path:
    """Prepares a set once, in array_record; afterwards `data.load` finds it.

    tfds writes into an `incomplete.*` folder and renames it at the end; what an
    interruption left of such folders is removed first, so a second try starts clean
    (a finished download is kept). Do not prepare one set in two processes at once.

    Args:
      name_or_builder: one of `DOWNLOADS`: TensorFlow is not needed for "cifar10" and
        "cifar100", and is for the others; the archives of "imagenet2012" are to be put
        by hand into the folder that the error names. Or a `tfds.core.DatasetBuilder`.
      data_dir: of tfds; None: TFDS_DATA_DIR, else ~/tensorflow_datasets. A builder has
        its own.
      log: told what is about to happen, and where the set lies in the end.

    Returns: the folder of the prepared set.

    Raises:
      ValueError: an unknown name, or a folder for a builder, which has one.
      PrepareError: a package is missing, the download failed, or the set is there in
        another format.
    """
    builder = _builder(name_or_builder, data_dir)
    target = epath.Path(builder.data_dir)
    # Above the name, the configuration where there is one, and the version.
    where = _where(target.parents[builder.info.full_name.count("/")])
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
    # tfds raises whatever happened below it: sockets, archives, checksums, packages.
    except Exception as error:
        raise PrepareError(_explain(builder.name, error)) from error
    log(f"{builder.name} lies in {target}{where}")
    return target


def _builder(name_or_builder, data_dir):
    if not isinstance(name_or_builder, str):
        if data_dir is not None:
            raise ValueError(
                f"the builder prepares into {name_or_builder.data_dir}; give its own "
                f"data_dir to it instead of {data_dir}"
            )
        return name_or_builder
    name = nearest.choose(name_or_builder, DOWNLOADS, "dataset to prepare")
    import tensorflow_datasets

    folder = tfds.data_dir() if data_dir is None else epath.Path(data_dir).expanduser()
    try:
        builder = tensorflow_datasets.builder_cls(name)(data_dir=folder)
    except Exception as error:  # whatever tfds says to a description it cannot read
        raise PrepareError(
            f"{folder / name} is damaged ({error}); delete it and prepare it again"
        ) from error
    return _without_tensorflow(builder) if name in _LABELS else builder


def _without_tensorflow(builder):
    """Replaces the two steps for which tfds' CIFAR builders need TensorFlow.

    They are unpacking the archive, and reading its files and encoding the pixels as
    PNG. Keys, order and pixels stay those of tfds.
    """
    splits, labels = builder._split_generators, _LABELS[builder.name]
    builder._split_generators = lambda manager: splits(_Downloads(manager))
    builder._generate_examples = lambda prefix, paths: _examples(prefix, paths, labels)
    return builder


def _examples(prefix: str, paths: Iterable[str], labels: Sequence[str]):
    """The examples of CIFAR's binary files, with keys counted through all of them.

    A record is a byte for each label, then 32 x 32 bytes of red, of green, of blue.
    """
    from PIL import Image

    key = 0
    for path in paths:
        records = np.frombuffer(epath.Path(path).read_bytes(), np.uint8)
        for record in records.reshape(-1, len(labels) + 3 * _SIDE**2):
            values, pixels = np.split(record, [len(labels)])
            pixels = pixels.reshape(3, _SIDE, _SIDE).transpose(1, 2, 0)
            # tfds leaves an image of Pillow to be encoded by Pillow.
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
    """The one method of tfds' download manager that the CIFAR builders call."""

    def __init__(self, manager):
        self._manager = manager

    def download_and_extract(self, url: str) -> epath.Path:
        archive = epath.Path(self._manager.download(url))
        folder = archive.parent / f"{archive.name}.unpacked"
        # Unpacked anew: an interruption may have left half of it.
        shutil.rmtree(folder, ignore_errors=True)
        with tarfile.open(archive) as tar:
            # The first Python 3.11 have no filter yet.
            tar.extraction_filter = getattr(tarfile, "data_filter", lambda m, _: m)
            tar.extractall(folder)
        return folder


def _clean(target: epath.Path) -> None:
    """Removes what an interruption left: half-made folders of this version."""
    if target.exists() and not (target / "dataset_info.json").exists():
        target.rmtree()
    if target.parent.exists():
        for path in target.parent.iterdir():
            if path.name.startswith("incomplete.") and path.name.endswith(
                f"_{target.name}"
            ):
                path.rmtree()


def _announcement(name: str, target: epath.Path) -> str:
    megabytes = DOWNLOADS.get(name)
    if megabytes is None:
        return f"preparing {name} in {target}"
    return (
        f"preparing {name} in {target}: {megabytes} MB to download, then about "
        f"{-(-megabytes // 200)} minutes to write as much again"
    )


def _check_packages(name: str) -> None:
    """Raises PrepareError before a download that could not be read afterwards."""
    for module in _NEEDS[name]:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise PrepareError(_missing(module, name)) from error


def _where(folder: epath.Path) -> str:
    """How `data.load` is told of a folder of tfds that it does not look into."""
    if folder == tfds.data_dir():
        return ""
    return f"; set TFDS_DATA_DIR={folder} for it to be found there"


def _explain(name: str, error: BaseException) -> str:
    """The failure in a sentence, with the remedy where it is known."""
    cause: BaseException | None = error
    while cause is not None:
        # tfds raises such errors again with the name in the text only.
        if isinstance(cause, ModuleNotFoundError) and cause.name is not None:
            return _missing(cause.name, name)
        cause = cause.__cause__ or cause.__context__
    return (
        f"{name} could not be prepared ({type(error).__name__}: {error}); the same "
        "command again starts anew"
    )


def _missing(module: str, name: str) -> str:
    return (
        f"preparing {name} needs the package {module}: "
        'pip install "kd_heuristics[prepare]"'
    )
