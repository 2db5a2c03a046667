"""Learning-rate schedules: functions of the step that optax takes as they are.

Each call returns an `optax.Schedule`, `count -> float32 value`. A count is the number
of updates done, from 0: an integer, a float (2.5 is half-way from count 2 to 3), or an
array of either. Schedules run under `jit` and `vmap`, and their numeric arguments may
be traced, so that a population of runs has its own rates and periods. What is wrong
with an argument is said where the schedule is made, if its value is known there.
"""

from kd_heuristics.schedules.cyclic import cyclic
from kd_heuristics.schedules.decay import cosine_decay, linear_decay, step_decay
from kd_heuristics.schedules.scaling import linear_scaling
from kd_heuristics.schedules.sgdr import sgdr, sgdr_restarts
from kd_heuristics.schedules.timing import per_epoch, warmup
from kd_heuristics.schedules.wsd import wsd

__all__ = [
    "cosine_decay",
    "cyclic",
    "linear_decay",
    "linear_scaling",
    "per_epoch",
    "sgdr",
    "sgdr_restarts",
    "step_decay",
    "warmup",
    "wsd",
]
