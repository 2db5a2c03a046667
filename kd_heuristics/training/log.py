"""Lines and checkpoints of a training, and the way back to the newest of them."""

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kd_heuristics import checkpoints
from kd_heuristics.training.metrics import MetricsFile


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """When a training writes what; the arguments of `fit` by the same names.

    Raises:
      ValueError: a count below 1, a step to keep outside [0, num_steps], or an unknown
        on_nonfinite.
    """

    num_steps: int
    log_every_steps: int = 100
    steps_per_call: int = 50
    metrics: MetricsFile | None = None
    directory: str | Path | None = None
    keep_steps: Collection[int] = ()
    keep_last: int = 1
    score: Callable[[Mapping[str, Any]], float] | None = None
    checkpoint_every_logs: int = 1
    on_nonfinite: str = "raise"

    def __post_init__(self):
        for name in (
            "num_steps",
            "log_every_steps",
            "steps_per_call",
            "keep_last",
            "checkpoint_every_logs",
        ):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"{name} must be at least 1, got {getattr(self, name)}"
                )
        if self.on_nonfinite not in ("raise", "record"):
            raise ValueError(
                f"on_nonfinite must be 'raise' or 'record', got {self.on_nonfinite!r}"
            )
        outside = [step for step in self.keep_steps if not 0 <= step <= self.num_steps]
        if outside:
            raise ValueError(
                f"keep_steps must lie in [0, {self.num_steps}], got {outside}"
            )

    def stops(self) -> Sequence[int]:
        """Where a metrics line is due."""
        every = range(self.log_every_steps, self.num_steps + 1, self.log_every_steps)
        return sorted({*every, *self.keep_steps, self.num_steps} - {0})


class Log:
    """What one training has written so far; a stage name for each network in it."""

    def __init__(self, plan: Plan, stages: Sequence[str]):
        self.plan, self.stages = plan, stages
        self._kept = {*plan.keep_steps, plan.num_steps}

    def resume(self, state):
        """The newest checkpoint in place of `state`, where there is one."""
        directory, metrics = self.plan.directory, self.plan.metrics
        if directory is not None:
            if checkpoints.steps(directory):
                state = checkpoints.restore(directory, state)
            elif 0 in self.plan.keep_steps:
                checkpoints.save(directory, 0, state)
        if metrics is not None:
            for stage in self.stages:
                metrics.cut(stage, int(state.step))
        return state

    def write(self, number: int, step: int, values: Mapping[str, Any], state) -> None:
        """The `number`-th line, counted from 1, and the checkpoint due with it."""
        if self.plan.metrics is not None:
            for index, stage in enumerate(self.stages):
                line = {
                    name: float(np.ravel(value)[index if np.ndim(value) else 0])
                    for name, value in values.items()
                }
                self.plan.metrics.append(stage, step, line)
        # After the line: a kill between the two repeats a line, which resume cuts.
        due = number % self.plan.checkpoint_every_logs == 0 or step in self._kept
        if due and self.plan.directory is not None:
            self._checkpoint(self.plan.directory, step, values, state)

    def _checkpoint(self, directory, step, values, state):
        score = self.plan.score
        scored = None if score is None else float(score(values))
        checkpoints.save(directory, step, state, score=scored)
        steps = checkpoints.steps(directory)
        best = None if score is None else checkpoints.best(directory)
        kept = {*self._kept, *steps[-self.plan.keep_last :], best}
        for old in steps:
            if old not in kept:
                checkpoints.remove(directory, old)
