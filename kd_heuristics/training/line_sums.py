"""Metric sums since the last metrics line, kept across interruptions."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from kd_heuristics.training.metrics import SKIPPED, STEPS, VALUE


class LineSums(NamedTuple):
    """Partial sums for the next metrics line.

    The end of a training may cut a call short. The sums of that call are kept apart, so
    that a longer training can finish the call and sum its steps in the same order as
    an uninterrupted one.

    Attributes:
      since: step of the previous line.
      totals: float64 sums of the completed calls, with their number of steps.
      first: step at which the last call began.
      sums: sums of the last call; {} once they are part of `totals`.
    """

    since: int
    totals: Mapping[str, Any]
    first: int
    sums: Mapping[str, Any]

    @classmethod
    def after(cls, step: int) -> "LineSums":
        """Returns empty sums, as they are right after the line of `step`."""
        return cls(step, {}, step, {})

    def at(self, step: int, steps_per_call: int = 1) -> "LineSums":
        """Add the last call's sums to the totals if the call is complete at `step`."""
        if self.sums and step < self.first + steps_per_call:
            return self
        totals = self.totals
        if self.sums:
            # float64, so that a long interval loses no digits.
            sums = {
                name: array.astype(np.float64)
                for name, array in self.sums.items()
                if name != VALUE
            }
            sums[STEPS] = np.float64(step - self.first) - sums.get(SKIPPED, 0.0)
            totals = {name: totals.get(name, 0.0) + sums[name] for name in sums}
        return LineSums(self.since, totals, step, {})

    def means(self) -> dict[str, Any]:
        """Returns the line's means over steps not skipped; NaN if all were."""
        totals = dict(self.totals)
        steps = totals.pop(STEPS)
        own = {SKIPPED: totals.pop(SKIPPED)} if SKIPPED in totals else {}
        with np.errstate(invalid="ignore", divide="ignore"):
            return {name: total / steps for name, total in totals.items()} | own
