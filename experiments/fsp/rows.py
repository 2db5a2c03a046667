"""The rows of the FSP study's tables: how the nets of each come about."""

import dataclasses
from typing import Any, Literal


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """A row of our tables: how its nets come about.

    Attributes:
      size: "large": of the teacher's form; "small": of the student's.
      start: "fresh"; "weights", from a file; a key of `HINTS`, or "flow": after that
        first stage, one a seed, or "shuffled": with one for each net; else the row
        whose nets are trained on.
      soft: the last stage has soft targets beside labels, as the second of FitNets.
      phase: of the last stage.
      part: of the classes: "all", or "source" or "target" of the transfer.
      teacher: the row whose first net teaches.
    """

    size: Literal["large", "small"] = "large"
    start: str = "fresh"
    soft: bool = False
    phase: Literal["teacher", "fast", "transfer"] = "fast"
    part: Literal["all", "source", "target"] = "all"
    teacher: str = "teacher"


# Starts with hints: how many of the sections give one, from the middle out. The paper
# does not say which "3 middle layers" its second FitNet had.
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


NEVER = 2**30  # a step that no run reaches
