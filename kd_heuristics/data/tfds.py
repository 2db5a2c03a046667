"""Finds sets that TensorFlow Datasets prepared.

tfds stores them in TFDS_DATA_DIR, else in ~/tensorflow_datasets, as <set>/<version>/ or
<set>/<config>/<version>/. Only the format array_record can be read without TensorFlow;
`kd-heuristics prepare` writes it.
"""

import contextlib
import os

from etils import epath

from kd_heuristics.data.prepared import SETS
from kd_heuristics.runtime.errors import first_line


class MissingDatasetError(FileNotFoundError):
    """Reports a missing or unreadable set; the message has the remedy."""


class PrepareError(Exception):
    """Reports that a set could not be prepared; the message has the remedy."""


@contextlib.contextmanager
def reading(name: str, directory: epath.Path):
    """Turns any failure inside the block into advice to prepare the set again.

    Raises:
      MissingDatasetError: replaces any error but ImportError.
    """
    try:
        yield
    except (ImportError, MissingDatasetError):
        raise
    # tfds, array_record and Pillow have no common error for damaged files.
    except Exception as error:
        raise MissingDatasetError(
            f"{name} in {directory} cannot be read ({first_line(error)}); delete that "
            f"folder and prepare it again:\n{remedy(name)}"
        ) from error


def data_dir() -> epath.Path:
    """Returns the folder where tfds keeps its sets."""
    default = "~/tensorflow_datasets"
    return epath.Path(os.environ.get("TFDS_DATA_DIR") or default).expanduser()


def how_to_find(folder: epath.Path) -> str:
    """States how to make `data.load` search a folder outside its default."""
    if folder == data_dir():
        return ""
    return f"; set TFDS_DATA_DIR={folder} for it to be found there"


def find(name: str, config: str = "") -> epath.Path:
    """Returns the folder of a prepared set's newest version in array_record.

    Args:
      name: name of the set in tfds.
      config: configuration of its builder, "" for none.

    Raises:
      MissingDatasetError: no such version exists.
    """
    folder = data_dir() / name / config
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
    """Returns the command that prepares a set: ours where we know the set."""
    if name in {entry.base for entry in SETS.values()}:
        return f"  kd-heuristics prepare {name}"
    return f"  tfds build {name} --file_format=array_record"


def prepared_versions(folder: epath.Path) -> list[epath.Path]:
    """Lists the versions of a set that tfds finished preparing, unordered."""
    if not folder.exists():
        return []
    return [path for path in folder.iterdir() if (path / "dataset_info.json").exists()]


def is_array_record(version: epath.Path) -> bool:
    """Returns whether a prepared version can be read without TensorFlow."""
    return any(".array_record" in path.name for path in version.iterdir())


def _version(path: epath.Path) -> tuple[int, ...]:
    """Parses a folder's version for sorting; -1 for parts that are not numbers."""
    return tuple(int(part) if part.isdigit() else -1 for part in path.name.split("."))
