"""Tables of a run of the FSP study."""

import itertools
from typing import Any

import numpy as np

from experiments.common import fidelity
from experiments.fsp.claims import SHARE, compared, difference, papers_table
from experiments.fsp.config import Config
from experiments.fsp.rows import FAST, SMALL, TRANSFER
from kd_heuristics.runs import summary


def results(config: Config, arrays: dict) -> dict[str, Any]:
    """The tables, ours beside the paper's, and the statistics of the claims."""

    def row(arm):
        final = arrays[f"{arm}/test_accuracy"][..., -1]
        values = {
            "nets": final.tolist(),
            "average": summary(final.mean(1)),
            "iterations": config.iterations(arm),
        }
        if f"{arm}/ensemble" in arrays:
            values["ensemble"] = summary(arrays[f"{arm}/ensemble"])
        return values

    speed = {}
    if config.fast:
        speed["share_of_steps_to_the_fast_teachers_loss"] = summary(_share(arrays))
    return speed | {
        "seeds": list(range(config.first_seed, config.first_seed + config.seeds)),
        "fast": {arm: row(arm) for arm in config.arms if arm in FAST},
        "small": {arm: row(arm) for arm in config.arms if arm in SMALL},
        "transfer": {arm: row(arm) for arm in config.arms if arm in TRANSFER},
        "fidelity": fidelity.results(config.arms, arrays),
        "paper": {name: papers_table(name) for name in config.paper_tables},
        "statistics": statistics(config, arrays),
    }


def statistics(config: Config, arrays: dict) -> dict[str, np.ndarray]:
    """The numbers of the claims, a value a seed."""
    final = {
        arm: 100 * arrays[f"{arm}/test_accuracy"][..., -1].mean(1)
        for arm in config.arms
    }
    gaps = {difference(a, b): final[a] - final[b] for a in final for b in final}
    gaps |= fidelity.statistics(compared(config), arrays)
    if not config.fast:
        return gaps
    for a, b in itertools.permutations((row for row in FAST if row in final), 2):
        gaps[difference(f"{a} ensemble", f"{b} ensemble")] = 100 * (
            arrays[f"{a}/ensemble"] - arrays[f"{b}/ensemble"]
        )
    return gaps | {SHARE: 100 * (1 / 2 - _share(arrays))}


def _share(arrays: dict) -> np.ndarray:
    """The share of a student's steps until the fast teacher's last loss, [seeds]."""
    goal = arrays["teacher_fast/loss"][..., -1]
    steps, loss = arrays["student/step"], arrays["student/loss"]
    return share_of_steps(steps, loss, goal).mean(1)


def share_of_steps(steps: np.ndarray, loss: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """The share of a stage's steps until its loss is at a goal; 1 where it never is.

    Args:
      steps: [points].
      loss: [..., points], the mean since the point before.
      goal: [...].
    """
    there = loss <= goal[..., None]
    first = np.where(there.any(-1), there.argmax(-1), len(steps) - 1)
    return steps[first] / steps[-1]
