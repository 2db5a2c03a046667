"""Metrics lines and checkpoints of a training, and resuming from the newest."""

import dataclasses
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from kd_heuristics import checkpoints, runs
from kd_heuristics.runtime import hosts, nearest, parallel
from kd_heuristics.runtime.files import AnyPath
from kd_heuristics.runtime.values import LARGEST, integer
from kd_heuristics.training.begun import Begun
from kd_heuristics.training.metrics import MetricsFile
from kd_heuristics.training.origin import ResumeWarning, differences
from kd_heuristics.training.outputs import STEPS


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """Schedule of lines and checkpoints; fields have the names of `fit`'s arguments.

    Raises:
      TypeError: a count or step is not an integer.
      ValueError: a count is below 1, a step to keep lies outside [0, num_steps], or
        on_nonfinite is unknown.
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

    @classmethod
    def of(cls, **given: Any) -> "Plan":
        """Returns the plan for a user's arguments, which may be of any integer type."""
        for name in (
            "num_steps",
            "log_every_steps",
            "steps_per_call",
            "keep_last",
            "checkpoint_every_logs",
        ):
            most = LARGEST if name == "num_steps" else None
            given[name] = integer(name, given[name], 1, most)
        keep = [integer("a step of keep_steps", step) for step in given["keep_steps"]]
        return cls(**given | {"keep_steps": keep})

    def __post_init__(self):
        nearest.choose(self.on_nonfinite, ("raise", "skip", "record"), "on_nonfinite")
        outside = [step for step in self.keep_steps if not 0 <= step <= self.num_steps]
        if outside:
            raise ValueError(
                f"keep_steps must lie in [0, {self.num_steps}], got {outside}"
            )

    def stops(self) -> Sequence[int]:
        """Returns the steps at which a metrics line is due, ascending."""
        every = range(self.log_every_steps, self.num_steps + 1, self.log_every_steps)
        return sorted({*every, *self.keep_steps, self.num_steps} - {0})


class Log:
    """Writer of a training's lines and checkpoints, with a stage name per network.

    `origins` holds the result of `origin.origin` for each network.
    """

    def __init__(
        self, plan: Plan, stages: Sequence[str], origins: Sequence[Mapping[str, Any]]
    ):
        self.plan, self.stages, self._origins = plan, stages, origins
        self._kept = {*plan.keep_steps, plan.num_steps}

    def resume(self, state):
        """Returns `(state, begun)` of the newest intact checkpoint, else the start."""
        start, begun = state, Begun.after(0)
        directory = self.plan.directory
        if directory is not None:
            state, begun = self._restore(directory, start)
        if self.plan.metrics is not None:
            self._resume_lines(self.plan.metrics, int(state.step), begun)
        if directory is not None:
            self._keep(directory, start, state, begun)
        return state, begun

    def _restore(self, directory, start):
        """Returns state and sums of the newest intact checkpoint, else the start."""
        checkpoints.tidy(directory)
        step = checkpoints.newest_good(directory, {*self.plan.keep_steps} - {0})
        if step is not None and step > self.plan.num_steps:
            raise checkpoints.CheckpointError(
                f"{directory} has a checkpoint of step {step}, of a longer training "
                f"than this one with num_steps={self.plan.num_steps}, which cannot "
                f"resume from it. Give num_steps={step} or more, or another directory"
            )
        self._check_room(directory, start, 0 if step is None else step)
        if step is None:
            return start, Begun.after(0)
        state = checkpoints.restore(directory, start, step)
        notes = checkpoints.notes(directory, step) or {}
        self._say_differences(directory, step, notes.get("origins", {}))
        return state, self._begun(directory, step, notes)

    def _keep(self, directory, start, state, begun):
        """Save and prune checkpoints as an uninterrupted training would have by now."""
        if 0 in self.plan.keep_steps and not checkpoints.is_good(directory, 0):
            checkpoints.save(directory, 0, start, notes=self._notes())
        step = int(state.step)
        if self.plan.score is not None and begun.since != step:
            # A shorter training ended here: this one has no line, hence no score here.
            checkpoints.save(directory, step, state, notes=self._notes(begun))
        self._prune(directory, step)

    def _say_differences(self, directory, step, origins):
        """Warn if the checkpoint's seed or numbers differ from this training's."""
        for stage, own in zip(self.stages, self._origins, strict=True):
            found = differences(origins.get(stage, own), own)
            if found:
                warnings.warn(
                    f"{stage} resumes from step {step} in {directory}, but its "
                    f"{'; its '.join(found)}. Use another directory to train anew",
                    ResumeWarning,
                    stacklevel=6,
                )

    def _begun(self, directory, step, notes):
        """Returns the sums that the checkpoint holds for the next metrics line."""
        since = max((stop for stop in self.plan.stops() if stop <= step), default=0)
        if since == step:
            return Begun.after(step)
        found = notes.get("begun")
        if found is None and STEPS in notes:  # written by version 0.1
            found = {"since": since, "totals": notes, "first": step, "sums": {}}
        if found is None or found["since"] != since:
            raise self._other_lines(directory, notes, f"step {step}")
        totals, sums = (
            {name: np.asarray(value) for name, value in found[part].items()}
            for part in ("totals", "sums")
        )
        return Begun(since, totals, found["first"], sums)

    def _resume_lines(self, metrics, step, begun):
        """Cut lines after the checkpoint; raise if one before it is missing."""
        metrics.cut(self.stages, step)
        due = [stop for stop in self.plan.stops() if stop <= step]
        there = {
            stage: [line["step"] for line in metrics.read(stage)]
            for stage in self.stages
        }
        # A shorter training's last line is not due in this one.
        cut = begun.since != step and all(s == [*due, step] for s in there.values())
        if cut:
            metrics.cut(self.stages, begun.since)
        for stage, steps in there.items():
            if steps != due and not cut:
                notes = {}
                if self.plan.directory is not None and step:
                    notes = checkpoints.notes(self.plan.directory, step) or {}
                raise self._other_lines(
                    self.plan.directory,
                    notes,
                    f"{metrics.path} has the steps {steps} of {stage}, but {due} "
                    "are due",
                )

    def _other_lines(self, directory, notes, words):
        """Returns the error for lines that are lost or lie at other steps."""
        lines = notes.get("lines", {})
        for name in ("log_every_steps", "keep_steps"):
            asked = self._lines()[name]
            if lines.get(name, asked) != asked:
                return runs.RunError(
                    f"{directory} was trained with {name}={lines[name]}, this call has "
                    f"{name}={asked}: its lines would cover other steps ({words}). "
                    f"Give {name}={lines[name]} again, or use another directory"
                )
        return runs.RunError(
            f"metrics lines were lost or changed: {words}. Remove "
            f"{directory} to train it again"
        )

    def _lines(self):
        """Returns the settings that determine the steps of the lines."""
        plan = self.plan
        return {
            "log_every_steps": plan.log_every_steps,
            "keep_steps": sorted({*plan.keep_steps} - {0}),
        }

    def _notes(self, begun=None):
        """Returns what a checkpoint records in addition to the state."""
        notes = {
            "lines": self._lines(),
            "origins": dict(zip(self.stages, self._origins, strict=True)),
        }
        if begun is not None:
            notes["begun"] = begun._asdict() | {
                part: {
                    k: np.asarray(v).tolist() for k, v in getattr(begun, part).items()
                }
                for part in ("totals", "sums")
            }
        return notes

    def _check_room(self, directory, state, step):
        """Raise if the disk has no room for the checkpoints still to be written."""
        if step < self.plan.num_steps:
            left = [s for s in self._kept if s >= step]
            # A checkpoint being written takes room in addition to the others.
            count = len(left) + self.plan.keep_last + 1
            there = len(checkpoints.steps(directory))
            checkpoints.check_room(directory, state, max(1, count - there))

    def write(
        self, number: int, step: int, values: Mapping[str, Any], state, begun: Begun
    ) -> None:
        """Write a line, and the checkpoint if one is due with it.

        Args:
          number: number of the line, counted from 1.
          step: step of the line.
          values: metrics of the line, {name: number or [networks]}.
          state: state of the training.
          begun: the line's sums, for a longer training that has no line at this step.
        """
        values = parallel.to_host(dict(values))
        if self.plan.metrics is not None:
            hosts.first(self._append, self.plan.metrics, step, values)
        # After the line: if a kill comes between the two, `resume` cuts the line.
        due = number % self.plan.checkpoint_every_logs == 0 or step in self._kept
        if due and self.plan.directory is not None:
            score = self.plan.score
            scored = None if score is None else float(score(values))
            notes = self._notes(begun)
            checkpoints.save(
                self.plan.directory, step, state, score=scored, notes=notes
            )
            self._prune(self.plan.directory, step)

    def _append(self, metrics, step, values):
        """Append the line of each network to the metrics file."""
        for index, stage in enumerate(self.stages):
            line = {
                name: float(np.ravel(value)[index if np.ndim(value) else 0])
                for name, value in values.items()
            }
            metrics.append(stage, step, line)
        metrics.flush()

    def interrupt(self, step: int, begun: Begun, state) -> None:
        """Write the checkpoint of a training that stops between two lines.

        Args:
          step: step at which it stops.
          begun: sums since the last line, so that the next line stays the same.
          state: state of the training.
        """
        directory = self.plan.directory
        if directory is not None and not checkpoints.is_good(directory, step):
            checkpoints.save(directory, step, state, notes=self._notes(begun))

    def last_good(self) -> str:
        """Returns the newest checkpoint in words."""
        directory = self.plan.directory
        steps = [] if directory is None else checkpoints.steps(directory)
        return f"step {steps[-1]} in {directory}" if steps else "none was written"

    def _prune(self, directory, step):
        """Remove checkpoints not to be kept; leave later steps to be overwritten."""
        steps = [other for other in checkpoints.steps(directory) if other <= step]
        best = None if self.plan.score is None else checkpoints.best(directory)
        kept = {*self._kept, *steps[-self.plan.keep_last :], best}
        for old in steps:
            if old not in kept:
                checkpoints.remove(directory, old)
