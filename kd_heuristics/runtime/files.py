"""Files written whole or not at all: under another name beside their place, renamed.

A path with "://" ("gs://bucket/run") is of an object store, which etils.epath reads and
writes. A store has no rename, no append and no folders, and each write of an object is
whole by itself: there a file is made on this machine and sent in one piece.
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
PREFIX = ".partial-"  # of the name while it is written; the ending stays


def is_store(path: AnyPath) -> bool:
    """Whether a path is of an object store.

    >>> is_store("gs://bucket/run"), is_store(Path("/tmp/run"))
    (True, False)
    """
    return "://" in os.fspath(path)


def path(name: AnyPath) -> Any:
    """The path of a name: pathlib's, or epath's where it is of an object store.

    A leading "~" or "~user" is that home, as in a shell.

    >>> path("~/run") == Path.home() / "run", path("gs://bucket/~").name
    (True, '~')
    """
    return epath.Path(name) if is_store(name) else local(name)


def local(name: AnyPath) -> Path:
    """The path of a name on this machine; "~" as in `path`."""
    return Path(os.path.expanduser(os.fspath(name)))


class WriteError(Exception):
    """A file could not be written; the message says what helps."""


@contextlib.contextmanager
def whole(path: AnyPath) -> Iterator[Path]:
    """Yields the path to write to, and renames that to `path` at the end.

    For an object store it is in a temporary folder of this machine, and what is written
    there is sent at the end.

    Raises:
      WriteError: the disk is full, or the folder cannot be written. What was at `path`
        stays, here and where anything else is raised inside.

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
    with tempfile.TemporaryDirectory() as folder, writing(target):
        partial = Path(folder) / (PREFIX + target.name)
        yield partial
        try:
            target.write_bytes(partial.read_bytes())
        except Exception as error:  # each client of a store has its own
            raise OSError(str(error)) from error


def make_folder(path: Any) -> None:
    """Makes a folder, and those that it lies in, where they are missing.

    Raises: WriteError where it cannot be made.
    """
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def writing(path: AnyPath) -> Iterator[None]:
    """Turns an OSError inside into a WriteError that names the file and the remedy."""
    try:
        yield
    except OSError as error:
        raise WriteError(
            f"{path} could not be written ({error.strerror or error}); make room, or "
            "see to the folder's permissions: the same command goes on where it was"
        ) from error


def storable(array: np.ndarray) -> np.ndarray:
    """The array as ".npz" files keep it: float32 for types that NumPy has not itself.

    Those of `ml_dtypes` (bfloat16, float8, int4) come back from a file as raw bytes;
    float32 holds their numbers exactly.

    >>> storable(np.ones(2, "bfloat16")).dtype, storable(np.ones(2, int)).dtype
    (dtype('float32'), dtype('int64'))
    """
    added_to_numpy = array.dtype.isbuiltin == 2
    return array.astype(np.float32) if added_to_numpy else array


def read_arrays(path: Any) -> dict[str, np.ndarray]:
    """Returns the arrays of an ".npz" file, without unpickling.

    Raises: the errors of zipfile, zlib and NumPy for a missing or damaged file.
    """
    # np.load, given a path, leaves a damaged file open.
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def write_arrays(path: AnyPath, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes an ".npz" file as `whole` does, of types as `storable` gives them."""
    stored: dict[str, Any] = {name: storable(x) for name, x in arrays.items()}
    with whole(path) as partial, partial.open("wb") as stream:
        np.savez(stream, **stored)


def write_text(path: AnyPath, text: str) -> None:
    """Writes a text file whole or not at all, in UTF-8.

    Raises:
      WriteError: see `whole`.
    """
    with whole(path) as partial:
        partial.write_text(text, encoding="utf-8")
