"""The metrics file: one JSON line per log step, without duplicates after a resume."""

import json
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, SupportsIndex

from kd_heuristics import runs
from kd_heuristics.runtime import files, hosts
from kd_heuristics.runtime.values import integer
from kd_heuristics.training import sinks as all_sinks

_FIELDS = ("stage", "step")  # fields of every line
# Summed with the metrics of the objective, which cannot use these names.
VALUE, STEPS, SKIPPED = "objective value", "steps", "skipped_updates"


class MetricsFile:
    """`metrics.jsonl` of a run folder; a stage is one training of the study.

    Each line is `{"stage": name, "step": int, metric: float, ...}`. With several
    processes all call the same functions, and only process 0 reads and writes.

    An object store cannot append. There, lines wait until `flush`, which a training
    calls before each checkpoint and which rewrites the file.
    """

    def __init__(
        self, path: files.AnyPath, sinks: Sequence[all_sinks.Sink] | None = None
    ):
        """Remember the path; write nothing yet.

        Args:
          path: path of the file.
          sinks: functions that also receive each line, in process 0 (see
            `training.sinks`). `None` uses those that the environment names, by default
            none.
        """
        self.path = files.path(path)
        self._waiting: list[str] = []
        if sinks is None:
            sinks = []
            if hosts.is_first():
                sinks = all_sinks.from_environment(self.path.parent)
        self.sinks = sinks

    def append(
        self, stage: str, step: SupportsIndex, values: Mapping[str, float]
    ) -> None:
        """Append a line; non-finite values are written as null.

        Raises:
          ValueError: a value has the name of one of the line's own fields.
        """
        check_names(values)
        step = integer("step", step)
        hosts.first(self._append, stage, step, {k: float(v) for k, v in values.items()})

    def _append(self, stage, step, values):
        line = {"stage": stage, "step": step} | {
            k: v if math.isfinite(v) else None for k, v in values.items()
        }
        text = json.dumps(line) + "\n"
        if files.is_store(self.path):
            self._waiting.append(text)
        else:
            with files.writing(self.path), self.path.open("a", encoding="utf-8") as f:
                f.write(text)
        for sink in self.sinks:
            sink(stage, step, values)

    def flush(self) -> None:
        """Write the waiting lines; only an object store has any."""
        hosts.first(self._flush)

    def _flush(self):
        if self._waiting:
            there = self.path.read_text() if self.path.exists() else ""
            files.write_text(self.path, there + "".join(self._waiting))
            self._waiting.clear()

    def cut(self, stages: Collection[str], last_step: int) -> None:
        """Delete the stages' lines past `last_step`, and a line broken by a kill.

        Raises:
          RunError: the file is damaged.
        """
        hosts.first(self._cut, stages, last_step)

    def _cut(self, stages, last_step):
        if not self.path.exists():
            return
        kept = [
            line
            for line in self.read()
            if line["stage"] not in stages or line["step"] <= last_step
        ]
        files.write_text(self.path, "".join(json.dumps(line) + "\n" for line in kept))

    def read(self, stage: str | None = None) -> list[dict[str, Any]]:
        """Returns the lines of one stage, or of all, in the order written.

        Raises:
          RunError: the file is damaged.
        """
        return hosts.first(self._read, stage)

    def _read(self, stage):
        self._flush()
        if not self.path.exists():
            return []
        content = self.path.read_bytes()
        lines = content[: content.rfind(b"\n") + 1].splitlines()
        found = [self._parse(number, line) for number, line in enumerate(lines, 1)]
        return [line for line in found if stage in (None, line["stage"])]

    def _parse(self, number, line):
        """Returns a line's dictionary; raise RunError if the line is damaged."""
        try:
            found = json.loads(line)
            if isinstance(found["stage"], str) and type(found["step"]) is int:
                return found
        except (ValueError, KeyError, TypeError):
            pass
        raise runs.RunError(
            f"line {number} of {self.path} is damaged; remove the run folder to start "
            "from the beginning"
        )


def check_names(names: Collection[str], others: Collection[str] = ()) -> None:
    """Raise ValueError if a metric has a reserved name.

    Args:
      names: names of the metrics.
      others: names reserved in addition to the line's own fields.
    """
    taken = (*_FIELDS, *others)
    for name in names:
        if name in taken:
            raise ValueError(
                f"a metric cannot be named {name!r}: {', '.join(map(repr, taken))} "
                "are reserved; give it another name"
            )
