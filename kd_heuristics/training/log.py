"""Lines and checkpoints of a training, and the way back to the newest of them."""

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from kd_heuristics import checkpoints, hosts, nearest, parallel, runs
from kd_heuristics.files import AnyPath
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
    directory: AnyPath | None = None
    keep_steps: Collection[int] = ()
    keep_last: int = 2
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
        nearest.choose(self.on_nonfinite, ("raise", "skip", "record"), "on_nonfinite")
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
        """`(state, totals)` of the newest whole checkpoint, or `state` and none."""
        totals = {}
        if self.plan.directory is not None:
            state, totals = self._restore(self.plan.directory, state)
        if self.plan.metrics is not None:
            self.plan.metrics.cut(self.stages, int(state.step))
            self._check_lines(self.plan.metrics, int(state.step))
        return state, {name: np.asarray(total) for name, total in totals.items()}

    def _restore(self, directory, start):
        kept = {*self.plan.keep_steps}
        checkpoints.tidy(directory)
        step = checkpoints.newest_good(directory, kept - {0})
        if step is not None and step > self.plan.num_steps:
            raise checkpoints.CheckpointError(
                f"{directory} has a checkpoint of step {step}, of a longer training "
                f"than this one with num_steps={self.plan.num_steps}: a shorter one is "
                f"no part of it. Give num_steps={step} or more, or another directory"
            )
        self._check_room(directory, start, 0 if step is None else step)
        state, totals = start, {}
        if step is not None:
            state = checkpoints.restore(directory, start, step)
            totals = checkpoints.notes(directory, step) or {}
        if 0 in kept and not checkpoints.is_good(directory, 0):
            checkpoints.save(directory, 0, start)
        self._prune(directory, int(state.step))
        return state, totals

    def _check_lines(self, metrics, step):
        """Raises where a line is missing that was written before the checkpoint."""
        due = [stop for stop in self.plan.stops() if stop <= step]
        for stage in self.stages:
            there = [line["step"] for line in metrics.read(stage)]
            if there != due:
                raise runs.RunError(
                    f"{metrics.path} has the steps {there} of {stage}, and its "
                    f"checkpoint those of {due}: lines were lost or changed. Remove "
                    f"{self.plan.directory} to train it again"
                )

    def _check_room(self, directory, state, step):
        """Raises where the disk has no room for the checkpoints still to be written."""
        if step < self.plan.num_steps:
            left = [s for s in self._kept if s >= step]
            # One more lies beside the others while it is written.
            count = len(left) + self.plan.keep_last + 1
            there = len(checkpoints.steps(directory))
            checkpoints.check_room(directory, state, max(1, count - there))

    def write(self, number: int, step: int, values: Mapping[str, Any], state) -> None:
        """The `number`-th line, counted from 1, and the checkpoint due with it."""
        values = parallel.to_host(dict(values))
        if self.plan.metrics is not None:
            hosts.first(self._append, self.plan.metrics, step, values)
        # After the line: a kill between the two repeats a line, which resume cuts.
        due = number % self.plan.checkpoint_every_logs == 0 or step in self._kept
        if due and self.plan.directory is not None:
            score = self.plan.score
            scored = None if score is None else float(score(values))
            checkpoints.save(self.plan.directory, step, state, score=scored)
            self._prune(self.plan.directory, step)

    def _append(self, metrics, step, values):
        for index, stage in enumerate(self.stages):
            line = {
                name: float(np.ravel(value)[index if np.ndim(value) else 0])
                for name, value in values.items()
            }
            metrics.append(stage, step, line)
        metrics.flush()

    def interrupt(self, step: int, totals: Mapping[str, Any], state) -> None:
        """The checkpoint of a training that stops between two lines.

        Args:
          step: where it stops.
          totals: sums since the last line, so that the next one will be the same.
          state: of the training.
        """
        directory = self.plan.directory
        if directory is not None and not checkpoints.is_good(directory, step):
            notes = {name: np.asarray(total).tolist() for name, total in totals.items()}
            checkpoints.save(directory, step, state, notes=notes)

    def last_good(self) -> str:
        """The newest checkpoint, in words."""
        directory = self.plan.directory
        steps = [] if directory is None else checkpoints.steps(directory)
        return f"step {steps[-1]} in {directory}" if steps else "none was written"

    def _prune(self, directory, step):
        """Removes what is not to stay; later steps than this one are made again."""
        steps = [other for other in checkpoints.steps(directory) if other <= step]
        best = None if self.plan.score is None else checkpoints.best(directory)
        kept = {*self._kept, *steps[-self.plan.keep_last :], best}
        for old in steps:
            if old not in kept:
                checkpoints.remove(directory, old)
