"""What a checkpoint's files were when it was written: their SHA-256 sums and more.

The manifest has a sum of its own and the step it was written for, so that neither a
changed byte in it nor a folder under another step's name goes unseen.
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
# What file managers and network file systems leave in any folder.
_STRAY = (".DS_Store", "._*", ".nfs*", ".directory", "Thumbs.db", "desktop.ini")


class CheckpointError(Exception):
    """A checkpoint that cannot be used; the message names it and the remedy."""


class DamagedError(CheckpointError):
    """A checkpoint that is not as it was written; an earlier one may do."""


def write(
    path: epath.Path,
    step: int,
    leaves: Mapping[str, str],
    score: float | None,
    notes: Any,
) -> None:
    """Writes the manifest of a checkpoint whose other files are all there.

    Args:
      path: the checkpoint's folder.
      step: for which it is written.
      leaves: `{name: "float32[2, 3]"}`.
      score: for `checkpoints.best`; None: none.
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
    """Notes with NumPy numbers and arrays as JSON; TypeError where they are no JSON."""
    try:
        return json.loads(json.dumps(notes, default=_plain))
    except (TypeError, ValueError) as error:
        raise TypeError(f"notes must be JSON, got {notes!r}: {error}") from None


def _plain(value):
    if hasattr(value, "tolist"):  # of NumPy or JAX
        return value.tolist()
    raise TypeError(f"a {type(value).__name__} is none")


def read(path: epath.Path, step: int) -> dict[str, Any]:
    """The manifest of a checkpoint, whose other files are not looked at.

    Raises:
      DamagedError: it is missing or not as it was written, or of another step.
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
    """The manifest of a checkpoint, after comparing every file with its sum.

    Raises:
      DamagedError: a file is missing, foreign or not as it was written.
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
    """SHA-256 of each file below `path`, by relative name.

    The manifest is left out, and what file managers write there.
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
    for entry in path.iterdir():
        if entry.is_dir():
            yield from _files(entry)
        elif not any(fnmatch.fnmatch(entry.name, pattern) for pattern in _STRAY):
            yield entry
