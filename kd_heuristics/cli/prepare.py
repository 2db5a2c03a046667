"""`kd-heuristics prepare`: downloads a set of images once."""

from pathlib import Path
from typing import Annotated

import tyro

from kd_heuristics.data import fashion_mnist
from kd_heuristics.data.prepare import DOWNLOADS
from kd_heuristics.data.prepare import prepare as prepare_set
from kd_heuristics.runtime import nearest
from kd_heuristics.runtime.errors import InputError, checking_input

Name = Annotated[
    tyro.conf.Positional[str],
    tyro.conf.arg(metavar="NAME", help=" | ".join(DOWNLOADS)),
]
DataDir = Annotated[
    Path | None,
    tyro.conf.arg(
        metavar="DIR", help="tfds' folder; else TFDS_DATA_DIR or ~/tensorflow_datasets"
    ),
]
From = Annotated[
    Path | None,
    tyro.conf.arg(
        name="from",
        metavar="FOLDER",
        help="of fashion_mnist: its four IDX files, in place of a download",
    ),
]


def prepare(name: Name, data_dir: DataDir = None, source: From = None) -> None:
    """Download a set and store it, readable without TensorFlow.

    For example:

        kd-heuristics prepare cifar10
        kd-heuristics prepare fashion_mnist --from ~/fashion
    """
    with checking_input():
        nearest.choose(name, DOWNLOADS, "dataset to prepare")
    if source is not None and name != fashion_mnist.NAME:
        raise InputError(
            f"--from takes the IDX files of {fashion_mnist.NAME}, got it with {name}; "
            "leave it out"
        )
    prepare_set(name, data_dir, source=source)
