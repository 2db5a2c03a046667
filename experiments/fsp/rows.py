"""The rows of the FSP study's tables, as data; `stages.plan` lists their trainings."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, Literal

Size = Literal["large", "small"]
Part = Literal["all", "source", "target"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """A row of our tables: how its nets are trained.

    Attributes:
      size: form of the nets: "large" as the teacher, "small" as the student of table 3.
      start: "fresh"; "weights", from a file; a key of `HINTS` or "flow", after that
        first stage, one per seed; "shuffled", after one per net; or another row, whose
        nets train on.
      soft: whether the last stage learns soft targets and labels, as the second stage
        of FitNets, or labels alone.
      phase: phase of the last stage.
      part: part of the classes: "all", or "source" or "target" of the transfer.
      teacher: the row whose first net teaches.
    """

    size: Size = "large"
    start: str = "fresh"
    soft: bool = False
    phase: Literal["teacher", "fast", "transfer"] = "fast"
    part: Part = "all"
    teacher: str = "teacher"


# Starts with hints, and the number of sections that give one, from the middle out. The
# paper does not say which "3 middle layers" its second FitNet uses.
HINTS = {"hints": 1, "three_hints": 3}


FAST = {
    "teacher": Row(phase="teacher"),
    "teacher_fast": Row(),
    "teacher_more": Row(start="teacher"),
    "fitnet": Row(start="hints", soft=True),
    "fitnet_3_hints": Row(start="three_hints", soft=True),
    "student": Row(start="flow"),
    "shuffled": Row(start="shuffled"),
}


SMALL = {
    "small": Row(size="small", phase="teacher"),
    "small_fitnet": Row(size="small", start="hints", soft=True, phase="teacher"),
    "small_fsp": Row(size="small", start="flow", phase="teacher"),
    "small_kd": Row(size="small", soft=True, phase="teacher"),
    "small_fsp_kd": Row(size="small", start="flow", soft=True, phase="teacher"),
}


_TARGET: dict[str, Any] = {
    "phase": "transfer",
    "part": "target",
    "teacher": "transfer_teacher",
}


TRANSFER = {
    "transfer_source": Row(phase="teacher", part="source"),
    "transfer_teacher": Row(start="transfer_source", **_TARGET),
    "transfer_teacher_scratch": Row(**_TARGET),
    "transfer_scratch": Row(size="small", **_TARGET),
    "transfer_fitnet": Row(size="small", start="hints", soft=True, **_TARGET),
    "transfer_fsp": Row(size="small", start="flow", **_TARGET),
}


def needed(rows: Mapping[str, Row], names: Iterable[str]) -> tuple[str, ...]:
    """The named rows, those whose nets they train on, and those whose nets teach them.

    >>> needed(TRANSFER, ["transfer_fsp"])
    ('transfer_fsp', 'transfer_teacher', 'transfer_source')
    """
    found: dict[str, None] = {}
    for name in names:
        row = rows[name]
        staged = row.start in (*HINTS, "flow", "shuffled")
        others = [row.teacher] if row.soft or staged else []
        others += [row.start] if row.start in rows and not staged else []
        found |= dict.fromkeys((name, *needed(rows, others)))
    return tuple(found)


def taught(rows: Mapping[str, Row]) -> dict[str, str]:
    """The rows whose nets can be compared with their teacher, and its row.

    All but the teachers themselves, and nets of other classes than theirs.

    >>> taught({"teacher": FAST["teacher"], "student": FAST["student"]})
    {'student': 'teacher'}
    """
    return {
        arm: row.teacher
        for arm, row in rows.items()
        if row.teacher in rows
        and arm != row.teacher
        and row.part == rows[row.teacher].part
    }
