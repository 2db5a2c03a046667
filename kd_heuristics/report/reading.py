"""Reading and checking of a run folder's files.

All content of a folder is checked here, so that any later error is a bug of ours.
"""

from collections.abc import Callable, Mapping
from typing import Any

from kd_heuristics import runs
from kd_heuristics.report.markup import VERDICTS
from kd_heuristics.runs import verdicts

Check = Callable[[Any], bool]


def checked(folder: runs.RunFolder, name: str) -> dict[str, Any] | None:
    """Returns a checked JSON file of a run folder, or None if it is missing.

    Args:
      folder: the run folder.
      name: "config.json", "results.json", "environment.json" or "error.json".

    Raises:
      RunError: the file is damaged or not written by a run; the message names the first
        field that is missing or malformed.
    """
    if not (folder.path / name).exists():
        return None
    content = folder.read_json(name)
    wrong = _wrong(content, _FILES[name])
    if wrong is not None:
        raise runs.RunError(
            f"{folder.path / name} is damaged, or no run wrote it: {wrong} is missing "
            "or malformed. Run the study again, or remove the folder"
        )
    return content


def _wrong(content: Any, fields: Mapping[str, Check]) -> str | None:
    """Returns the first field that is missing or malformed, or None."""
    if not isinstance(content, dict):
        return "its dictionary"
    return next(
        (repr(k) for k, good in fields.items() if not good(content.get(k, _ABSENT))),
        None,
    )


_ABSENT = object()


def _text(value) -> bool:
    return isinstance(value, str)


def _mapping(value) -> bool:
    return isinstance(value, dict)


def _number(value) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and abs(value) < 1e300  # not NaN, and small enough to draw


def _maybe(good: Check) -> Check:
    """Returns a check that also accepts null."""
    return lambda value: value is None or good(value)


def _optional(good: Check) -> Check:
    """Returns a check that also accepts null and a missing field."""
    return lambda value: value is _ABSENT or value is None or good(value)


def _list(good: Check, least: int = 0) -> Check:
    """Returns a check of lists with at least `least` entries that pass `good`."""
    return lambda value: (
        isinstance(value, list) and len(value) >= least and all(map(good, value))
    )


def _all(good: Check) -> Check:
    """Returns a check of dictionaries whose values pass `good`."""
    return lambda value: isinstance(value, dict) and all(map(good, value.values()))


def _of(fields: Mapping[str, Check]) -> Check:
    """Returns a check of dictionaries by field."""
    return lambda value: _wrong(value, fields) is None


def _pair(value) -> bool:
    return isinstance(value, list) and len(value) == 2


_CLAIM = _of(
    {
        **dict.fromkeys(("key", "words", "unit"), _text),
        "kind": lambda value: isinstance(value, str) and value in verdicts.KINDS,
        "main": lambda value: isinstance(value, bool),
        **dict.fromkeys(("smallest_effect", "level"), _number),
        **dict.fromkeys(("paper", "mean", "look", "seeds_needed"), _maybe(_number)),
        **dict.fromkeys(("values", "later_values"), _list(_maybe(_number))),
        "failed": _list(_number),
        "num_seeds": lambda value: value is _ABSENT or type(value) is int,
        **dict.fromkeys(("verdict_left_out", "verdict_at_chance"), _optional(_text)),
        "seeds": _optional(_list(_number)),
        "interval": _maybe(lambda value: _pair(value) and all(map(_number, value))),
        **dict.fromkeys(
            ("verdict", "verdict_at_half", "verdict_at_twice"),
            lambda value: isinstance(value, str) and value in VERDICTS,
        ),
    }
)
_FAILURES = _of(
    {
        "below": _maybe(_number),
        "trainings": _all(
            _of({**dict.fromkeys(("seeds", "interval"), _list(_number)), "of": _number})
        ),
    }
)
_INVOCATION = _of(
    {
        "command": _text,
        "devices": _list(_text),
        "seconds": _optional(_number),
        "accepted_code": _optional(_all(_list(_text))),
    }
)
_ROW = _of(dict.fromkeys(("field", "paper", "source", "ours", "status"), _text))
_FILES: dict[str, dict[str, Check]] = {
    "config.json": {
        "config": _mapping,
        "format": _optional(_number),
        **dict.fromkeys(
            ("headline", "question", "paper", "figure", "subject", "paper_preset"),
            _optional(_text),
        ),
        **dict.fromkeys(("answers", "controls"), _optional(_list(_text))),
        "deviations": _optional(_all(_pair)),
        "protocol": _optional(_list(_ROW)),
    },
    "results.json": {
        "claims": _optional(_list(_CLAIM)),
        "later_seeds": _optional(_list(_number)),
        "failures": _optional(_FAILURES),
    },
    "environment.json": {
        "invocations": _list(_INVOCATION, 1),
        "resumes": lambda value: value is not _ABSENT,
    },
    "error.json": {
        **dict.fromkeys(("error", "message"), _text),
        "traceback": _optional(_text),
    },
}
