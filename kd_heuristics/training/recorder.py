"""Keeps metrics lines and checkpoints of a training in step, also over a resume."""

import bisect
import contextlib
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kd_heuristics import checkpoints, runs
from kd_heuristics.runtime import hosts, parallel
from kd_heuristics.training.line_sums import LineSums
from kd_heuristics.training.metrics import STEPS
from kd_heuristics.training.provenance import ResumeWarning, differences
from kd_heuristics.training.settings import Checkpoints, Logging


class Recorder:
    """Writer of a training's lines and checkpoints, with a stage name per network.

    `origins` holds the result of `provenance` for each network.

    Raises: ValueError if a step to keep lies outside [0, num_steps].
    """

    def __init__(
        self,
        num_steps: int,
        logging: Logging,
        checkpoints: Checkpoints,
        stages: Sequence[str],
        origins: Sequence[Mapping[str, Any]],
    ):
        self.num_steps, self.stages, self._origins = num_steps, stages, origins
        self._metrics, self._directory = logging.metrics, checkpoints.directory
        self._settings = checkpoints
        self._log_every_steps = int(logging.log_every_steps)
        keep = {int(step) for step in checkpoints.keep_steps}
        outside = sorted(step for step in keep if not 0 <= step <= num_steps)
        if outside:
            raise ValueError(f"keep_steps must lie in [0, {num_steps}], got {outside}")
        self._keep_steps, self._kept = keep, {*keep, num_steps}
        every = range(self._log_every_steps, num_steps + 1, self._log_every_steps)
        self.stops = sorted({*every, *keep, num_steps} - {0})  # a line is due at each

    def next_stop(self, step: int) -> int:
        """Returns the first step after `step` at which a metrics line is due."""
        return self.stops[bisect.bisect(self.stops, step)]

    def resume(self, state):
        """Returns `(state, begun)` of the newest intact checkpoint, else the start."""
        start, begun = state, LineSums.after(0)
        directory = self._directory
        if directory is not None:
            state, begun = self._restore(directory, start)
        if self._metrics is not None:
            self._resume_lines(self._metrics, int(state.step), begun)
        if directory is not None:
            self._keep(directory, start, state, begun)
        return state, begun

    def _restore(self, directory, start):
        """Returns state and sums of the newest intact checkpoint, else the start."""
        checkpoints.tidy(directory)
        try:
            step = checkpoints.newest_good(directory, self._keep_steps - {0})
        except checkpoints.CheckpointError as error:
            self._say_never_kept(directory, error)
            raise
        if step is not None and step > self.num_steps:
            raise checkpoints.CheckpointError(
                f"{directory} has a checkpoint of step {step}, of a longer training "
                f"than this one with num_steps={self.num_steps}, which cannot "
                f"resume from it. Give num_steps={step} or more, or another directory"
            )
        self._check_room(directory, start, 0 if step is None else step)
        if step is None:
            return start, LineSums.after(0)
        state = checkpoints.restore(directory, start, step)
        notes = checkpoints.notes(directory, step) or {}
        self._say_differences(directory, step, notes.get("origins", {}))
        return state, self._begun(directory, step, notes)

    def _say_never_kept(self, directory, error):
        """Raise if the training passed a step of `keep_steps` without keeping it."""
        for step in reversed(checkpoints.steps(directory)):
            with contextlib.suppress(checkpoints.DamagedError):
                lines = (checkpoints.notes(directory, step) or {}).get("lines", {})
                kept = lines.get("keep_steps", self._keep_steps)
                new = sorted(s for s in self._keep_steps - {0, *kept} if s < step)
                if new:
                    raise checkpoints.CheckpointError(
                        f"keep_steps names steps {new}, which the training in "
                        f"{directory} did not keep: it had keep_steps={kept} and is at "
                        f"step {step}. Give keep_steps={kept} again, or use another "
                        "directory"
                    ) from error

    def _keep(self, directory, start, state, begun):
        """Save and prune checkpoints as an uninterrupted training would have by now."""
        if 0 in self._keep_steps and not checkpoints.is_good(directory, 0):
            checkpoints.save(directory, 0, start, notes=self._notes())
        step = int(state.step)
        if self._settings.score is not None and begun.since != step:
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
        since = max((stop for stop in self.stops if stop <= step), default=0)
        if since == step:
            return LineSums.after(step)
        found = notes.get("begun")
        if found is None and STEPS in notes:  # written by version 0.1
            found = {"since": since, "totals": notes, "first": step, "sums": {}}
        if found is None or found["since"] != since:
            raise self._other_lines(directory, notes, f"step {step}")
        totals, sums = (
            {name: np.asarray(value) for name, value in found[part].items()}
            for part in ("totals", "sums")
        )
        return LineSums(since, totals, found["first"], sums)

    def _resume_lines(self, metrics, step, begun):
        """Cut lines after the checkpoint; raise if one before it is missing."""
        metrics.cut(self.stages, step)
        due = [stop for stop in self.stops if stop <= step]
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
                if self._directory is not None and step:
                    notes = checkpoints.notes(self._directory, step) or {}
                raise self._other_lines(
                    self._directory,
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
        return {
            "log_every_steps": self._log_every_steps,
            "keep_steps": sorted(self._keep_steps - {0}),
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
        if step < self.num_steps:
            left = [s for s in self._kept if s >= step]
            # A checkpoint being written takes room in addition to the others.
            count = len(left) + int(self._settings.keep_last) + 1
            there = len(checkpoints.steps(directory))
            checkpoints.check_room(directory, state, max(1, count - there))

    def write(
        self, step: int, values: Mapping[str, Any], state, begun: LineSums
    ) -> None:
        """Write a line, and the checkpoint if one is due with it.

        Args:
          step: step of the line.
          values: metrics of the line, {name: number or [networks]}.
          state: state of the training.
          begun: the line's sums, for a longer training that has no line at this step.
        """
        values = parallel.to_host(dict(values))
        if self._metrics is not None:
            hosts.first(self._append, self._metrics, step, values)
        # After the line: if a kill comes between the two, `resume` cuts the line.
        number = self.stops.index(step) + 1
        due = number % int(self._settings.save_every_logs) == 0 or step in self._kept
        if due and self._directory is not None:
            score = self._settings.score
            scored = None if score is None else float(score(values))
            notes = self._notes(begun)
            checkpoints.save(self._directory, step, state, score=scored, notes=notes)
            self._prune(self._directory, step)

    def _append(self, metrics, step, values):
        """Append the line of each network to the metrics file."""
        for index, stage in enumerate(self.stages):
            line = {
                name: float(np.ravel(value)[index if np.ndim(value) else 0])
                for name, value in values.items()
            }
            metrics.append(stage, step, line)
        metrics.flush()

    def interrupt(self, step: int, begun: LineSums, state) -> None:
        """Write the checkpoint of a training that stops between two lines.

        Args:
          step: step at which it stops.
          begun: sums since the last line, so that the next line stays the same.
          state: state of the training.
        """
        directory = self._directory
        if directory is not None and not checkpoints.is_good(directory, step):
            checkpoints.save(directory, step, state, notes=self._notes(begun))

    def last_good(self) -> str:
        """Returns the newest checkpoint in words."""
        directory = self._directory
        steps = [] if directory is None else checkpoints.steps(directory)
        return f"step {steps[-1]} in {directory}" if steps else "none was written"

    def _prune(self, directory, step):
        """Remove checkpoints not to be kept; leave later steps to be overwritten."""
        steps = [other for other in checkpoints.steps(directory) if other <= step]
        best = None if self._settings.score is None else checkpoints.best(directory)
        kept = {*self._kept, *steps[-int(self._settings.keep_last) :], best}
        for old in steps:
            if old not in kept:
                checkpoints.remove(directory, old)
