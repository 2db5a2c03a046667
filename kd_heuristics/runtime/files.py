"""Atomic writes: temporary sibling file, then rename.

A path with "://" ("gs://bucket/run") lies on an object store, which etils.epath reads
and writes. A store has no rename, append or folders, but each write of an object is
atomic: a file for a store is made on this machine and uploaded in one piece.
"""

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from etils import epath

AnyPath = str | os.PathLike[str]
PREFIX = ".partial-"  # of the temporary name, which keeps the file's suffix


def is_store(path: AnyPath) -> bool:
    """Whether a path lies on an object store.

    >>> is_store("gs://bucket/run"), is_store(Path("/tmp/run"))
    (True, False)
    """
    return "://" in os.fspath(path)


def path(name: AnyPath) -> Any:
    """Returns a `pathlib.Path`, or an `epath.Path` if it lies on an object store.

    Expands a leading "~" or "~user", as a shell does.

    >>> path("~/run") == Path.home() / "run", path("gs://bucket/~").name
    (True, '~')
    """
    return epath.Path(name) if is_store(name) else local(name)


def local(name: AnyPath) -> Path:
    """Returns a path on this machine; expands "~" as `path` does."""
    return Path(os.path.expanduser(os.fspath(name)))


class WriteError(Exception):
    """Error that a file could not be written; the message has the remedy."""


@contextlib.contextmanager
def whole(path: AnyPath) -> Iterator[Path]:
    """Yields a temporary path to write to, and renames it to `path` at the end.

    For an object store, the path lies in a temporary folder of this machine, and the
    file is uploaded at the end. If anything is raised inside, the old file at `path`
    stays.

    Raises:
      WriteError: the disk is full, or the folder cannot be written.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with whole(folder / "a.txt") as partial:
    ...     _ = partial.write_text("all of it")
    >>> [path.name for path in folder.iterdir()]
    ['a.txt']
    """
    if is_store(path):
        with _sent(epath.Path(path)) as partial:
            yield partial
        return
    path = local(path)
    if path.is_dir():
        raise WriteError(f"{path} is a folder; give the path of a file")
    partial = path.with_name(PREFIX + path.name)
    try:
        with writing(path):
            yield partial
            partial.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise


@contextlib.contextmanager
def _sent(target) -> Iterator[Path]:
    """Yields a local temporary path, and uploads it to a store at the end."""
    with tempfile.TemporaryDirectory() as folder, writing(target):
        partial = Path(folder) / (PREFIX + target.name)
        yield partial
        try:
            target.write_bytes(partial.read_bytes())
        except Exception as error:  # each store's client raises its own types
            raise OSError(str(error)) from error


def make_folder(path: Any) -> None:
    """Creates a folder and its missing parents.

    Raises: WriteError if it cannot be created.
    """
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def writing(path: AnyPath) -> Iterator[None]:
    """Turns an OSError in the context into a WriteError with file and remedy."""
    try:
        yield
    except OSError as error:
        raise WriteError(
            f"{path} could not be written ({error.strerror or error}); make room, or "
            "check the folder's permissions, then give the same command to resume"
        ) from error


def storable(array: np.ndarray) -> np.ndarray:
    """Returns the array as stored in ".npz" files: float32 if NumPy lacks its type.

    Types of `ml_dtypes` (bfloat16, float8, int4) would be read back as raw bytes;
    float32 represents their values exactly.

    >>> storable(np.ones(2, "bfloat16")).dtype, storable(np.ones(2, int)).dtype
    (dtype('float32'), dtype('int64'))
    """
    added_to_numpy = array.dtype.isbuiltin == 2
    return array.astype(np.float32) if added_to_numpy else array


def read_arrays(path: Any) -> dict[str, np.ndarray]:
    """Returns the arrays of an ".npz" file, without unpickling.

    Raises: errors of zipfile, zlib and NumPy if the file is missing or damaged.
    """
    # np.load with a path leaves a damaged file open.
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def write_arrays(path: AnyPath, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes an ".npz" file atomically; types as in `storable`, see `whole`."""
    stored: dict[str, Any] = {name: storable(x) for name, x in arrays.items()}
    with whole(path) as partial, partial.open("wb") as stream:
        np.savez(stream, **stored)


def write_text(path: AnyPath, text: str) -> None:
    """Writes a text file atomically, in UTF-8.

    Raises:
      WriteError: see `whole`.
    """
    with whole(path) as partial:
        partial.write_text(text, encoding="utf-8")
