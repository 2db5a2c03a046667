"""Seconds of a training step, by wall clock and by CPU time."""

import time
from collections.abc import Callable
from typing import Any


def of_a_step(
    train: Callable[[int], Any], steps: int, repeats: int = 3
) -> dict[str, float]:
    """Seconds of a step by clock: the difference of a long and a short training.

    Args:
      train: takes a number of steps.
      steps: by which the long one is longer than one step.
      repeats: of both, of which the fastest counts.
    """
    clocks = {"wall": time.perf_counter, "cpu": time.process_time}

    def timed(count):
        before = {name: clock() for name, clock in clocks.items()}
        train(count)
        return {name: clock() - before[name] for name, clock in clocks.items()}

    timed(1)  # compiles
    runs = [(timed(1), timed(1 + steps)) for _ in range(repeats)]
    found = {}
    for name in clocks:
        short, long = (min(run[side][name] for run in runs) for side in (0, 1))
        # On a busy machine a short run may take longer than a long one.
        inner = (long - short) / steps
        found[name] = inner if inner > 0 else long / (1 + steps)
    return found
