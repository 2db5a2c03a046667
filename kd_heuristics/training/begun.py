"""Sums of the metrics since the last line, which outlive an interruption."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from kd_heuristics.training.outputs import SKIPPED, STEPS, VALUE


class Begun(NamedTuple):
    """What the next metrics line holds so far.

    A call may be cut short by the end of a training. Its sums are kept apart: where a
    longer training resumes there, that call is finished as if never cut, and sums
    its steps in the same order.

    Attributes:
      since: step of the line before.
      totals: float64 sums of the calls that are done, with their number of steps.
      first: step at which the last call began.
      sums: what that call summed, {} where it is among the totals.
    """

    since: int
    totals: Mapping[str, Any]
    first: int
    sums: Mapping[str, Any]

    @classmethod
    def after(cls, step: int) -> "Begun":
        """Nothing yet, after the line of a step."""
        return cls(step, {}, step, {})

    def at(self, step: int, steps_per_call: int = 1) -> "Begun":
        """With the sums of the last call among the totals, if it is done at `step`."""
        if self.sums and step < self.first + steps_per_call:
            return self
        totals = self.totals
        if self.sums:
            # In float64: a long interval loses no digits.
            sums = {
                name: array.astype(np.float64)
                for name, array in self.sums.items()
                if name != VALUE
            }
            sums[STEPS] = np.float64(step - self.first) - sums.get(SKIPPED, 0.0)
            totals = {name: totals.get(name, 0.0) + sums[name] for name in sums}
        return Begun(self.since, totals, step, {})

    def means(self) -> dict[str, Any]:
        """The line: means over the steps not skipped, NaN where all were."""
        totals = dict(self.totals)
        steps = totals.pop(STEPS)
        own = {SKIPPED: totals.pop(SKIPPED)} if SKIPPED in totals else {}
        with np.errstate(invalid="ignore", divide="ignore"):
            return {name: total / steps for name, total in totals.items()} | own
