"""Checks that a run folder can be written and has this version's format."""

from typing import Any

from kd_heuristics.runtime import files

FORMAT = 2  # incremented when the contents of a run folder's files change
PROBE = ".writable"
_STORE = 'check pip install "kd_heuristics[gcs]", credentials and permissions'


class RunError(Exception):
    """Error that a run folder cannot be used as asked; the message has the remedy."""


def make(path: Any) -> None:
    """Creates a folder and checks that it can be written.

    Raises: RunError if it cannot.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / PROBE
        probe.write_bytes(b"x")  # a full disk makes empty files
        probe.unlink(missing_ok=True)  # another process probes too
    except Exception as error:
        if files.is_store(path):  # its clients raise their own errors
            words, remedy = str(error), f"{_STORE}, or "
        elif isinstance(error, OSError):
            words, remedy = error.strerror, ""
        else:
            raise
        raise RunError(
            f"the run folder {path} cannot be written ({words}); {remedy}"
            "choose another with --workdir"
        ) from error


def other_format(described: Any) -> str | None:
    """Describes the format that a config.json names; `None` if it is this version's.

    >>> other_format({"format": 1}), other_format({}), other_format({"format": FORMAT})
    ('format 1', 'no format', None)
    """
    found = described.get("format") if isinstance(described, dict) else None
    if found == FORMAT:
        return None
    return "no format" if found is None else f"format {found}"


def check_format(path: Any, described: Any) -> None:
    """Raises RunError if a folder's config.json has another format."""
    words = other_format(described)
    if words is not None:
        raise RunError(
            f"{path} has {words}, but this version continues runs of format {FORMAT} "
            "only; choose another folder with --workdir, or remove this one"
        )
