"""`kd-heuristics prepare`: downloads a set of images once."""

from pathlib import Path
from typing import Annotated

import tyro

from kd_heuristics.data.prepare import DOWNLOADS
from kd_heuristics.data.prepare import prepare as prepare_set
from kd_heuristics.runtime import nearest
from kd_heuristics.runtime.errors import checking_input

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


def prepare(name: Name, data_dir: DataDir = None) -> None:
    """Download a set and store it, readable without TensorFlow.

    For example:

        kd-heuristics prepare cifar10
    """
    with checking_input():
        nearest.choose(name, DOWNLOADS, "dataset to prepare")
    prepare_set(name, data_dir)
