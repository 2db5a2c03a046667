"""Files written whole or not at all: under another name beside their place, renamed."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

PREFIX = ".partial-"  # of the name while it is written; the ending stays


class WriteError(Exception):
    """A file could not be written; the message says what helps."""


@contextlib.contextmanager
def whole(path: str | Path) -> Iterator[Path]:
    """Yields the path to write to, and renames that to `path` at the end.

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
    path = Path(path)
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
def writing(path: str | Path) -> Iterator[None]:
    """Turns an OSError inside into a WriteError that names the file and the remedy."""
    try:
        yield
    except OSError as error:
        raise WriteError(
            f"{path} could not be written ({error.strerror or error}); make room, or "
            "see to the folder's permissions: the same command goes on where it was"
        ) from error


def write_text(path: str | Path, text: str) -> None:
    """Writes a text file whole or not at all, in UTF-8.

    Raises:
      WriteError: see `whole`.
    """
    with whole(path) as partial:
        partial.write_text(text, encoding="utf-8")
