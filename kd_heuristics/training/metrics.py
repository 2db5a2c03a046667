"""The metrics file: one JSON line a log step, without duplicates after a resume."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kd_heuristics import runs


class MetricsFile:
    """`metrics.jsonl` of a run folder; a stage is one training of the study.

    Each line is `{"stage": name, "step": int, metric: float, ...}`.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)

    def append(self, stage: str, step: int, values: Mapping[str, float]) -> None:
        """Adds a line; a value that is not finite is written as null."""
        line = {"stage": stage, "step": step} | {
            k: float(v) if math.isfinite(v) else None for k, v in values.items()
        }
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def cut(self, stage: str, last_step: int) -> None:
        """Forgets the stage's lines past `last_step`, and a line broken by a kill."""
        if not self.path.exists():
            return
        kept = [
            line
            for line in self.read()
            if line["stage"] != stage or line["step"] <= last_step
        ]
        runs.write_text(self.path, "".join(json.dumps(line) + "\n" for line in kept))

    def read(self, stage: str | None = None) -> list[dict[str, Any]]:
        """The lines, of one stage or of all, in the order written."""
        if not self.path.exists():
            return []
        text = self.path.read_text(encoding="utf-8")
        whole = text[: text.rfind("\n") + 1]
        lines = [json.loads(line) for line in whole.splitlines()]
        return [line for line in lines if stage in (None, line["stage"])]
