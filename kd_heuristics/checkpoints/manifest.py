"""Manifest of a checkpoint: SHA-256 sums of its files, and more.

The manifest also holds its own sum and the step, so that a changed byte in it or a
folder renamed to another step is detected.
"""

import fnmatch
import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from etils import epath

FILE = "manifest.sha256.json"
_FIELDS = ("step", "files", "leaves", "score", "notes")
_CHUNK = 1 << 22
# Files that file managers and network file systems leave in any folder.
_STRAY = (".DS_Store", "._*", ".nfs*", ".directory", "Thumbs.db", "desktop.ini")


class CheckpointError(Exception):
    """Error that a checkpoint cannot be used; the message has the remedy."""


class DamagedError(CheckpointError):
    """Error that a checkpoint has changed since it was written; try an earlier one."""


def write(
    path: epath.Path,
    step: int,
    leaves: Mapping[str, str],
    score: float | None,
    notes: Any,
) -> None:
    """Writes the manifest of a checkpoint, after all its other files.

    Args:
      path: folder of the checkpoint.
      step: step of the checkpoint.
      leaves: `{name: "float32[2, 3]"}`.
      score: score for `checkpoints.best`, or `None`.
      notes: any JSON.
    """
    body = {
        "step": step,
        "files": sums(path),
        "leaves": dict(leaves),
        "score": score,
        "notes": notes,
    }
    text = json.dumps(body | {"sha256": _sum_of(body)}, indent=1)
    (path / FILE).write_text(text)


def checked_notes(notes: Any) -> Any:
    """Converts NumPy numbers and arrays in notes to JSON; TypeError if it cannot."""
    try:
        return json.loads(json.dumps(notes, default=_plain))
    except (TypeError, ValueError) as error:
        raise TypeError(f"notes must be JSON, got {notes!r}: {error}") from None


def _plain(value):
    """Converts a NumPy or JAX value to Python's, for JSON."""
    if hasattr(value, "tolist"):  # a value of NumPy or JAX
        return value.tolist()
    raise TypeError(f"a {type(value).__name__} is not JSON")


def read(path: epath.Path, step: int) -> dict[str, Any]:
    """Reads the manifest of a checkpoint, without checking the other files.

    Raises:
      DamagedError: it is missing, has changed, or belongs to another step.
    """
    try:
        found = json.loads((path / FILE).read_text())
        body = {name: found[name] for name in _FIELDS}
        whole = found["sha256"] == _sum_of(body) and len(found) == len(body) + 1
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedError(
            f"the checkpoint of step {step}, {path}, has no readable {FILE}: it is "
            "damaged or another program's"
        ) from error
    if not whole:
        raise DamagedError(
            f"the checkpoint of step {step}, {path}, is damaged: {FILE} is not as it "
            "was saved"
        )
    if body["step"] != step:
        raise DamagedError(
            f"the checkpoint of step {step}, {path}, is damaged: it was saved as step "
            f"{body['step']}, not {step}"
        )
    return body


def verify(path: epath.Path, step: int) -> dict[str, Any]:
    """Reads the manifest of a checkpoint and compares every file with its sum.

    Raises:
      DamagedError: a file is missing, foreign or changed.
    """
    body = read(path, step)
    saved = body["files"]
    try:
        found = sums(path)
    except OSError as error:
        raise DamagedError(
            f"the checkpoint of step {step}, {path}, cannot be read: {error}"
        ) from error
    wrong = sorted(n for n in {*saved, *found} if saved.get(n) != found.get(n))
    if wrong:
        state = (
            "is missing"
            if wrong[0] not in found
            else "is not of it"
            if wrong[0] not in saved
            else "is not as it was saved"
        )
        raise DamagedError(
            f"the checkpoint of step {step}, {path}, is damaged: {wrong[0]} {state}"
        )
    return body


def sums(path: epath.Path) -> dict[str, str]:
    """Returns the SHA-256 sum of each file below `path`, by relative name.

    Skips the manifest and files of file managers.
    """
    return {
        file.relative_to(path).as_posix(): _sum(file)
        for file in sorted(_files(path))
        if file != path / FILE
    }


def _sum(file: epath.Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _sum_of(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _files(path: epath.Path) -> Iterator[epath.Path]:
    """Yields the files below a folder, except those of file managers."""
    for entry in path.iterdir():
        if entry.is_dir():
            yield from _files(entry)
        elif not any(fnmatch.fnmatch(entry.name, pattern) for pattern in _STRAY):
            yield entry
