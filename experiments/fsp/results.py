"""Tables and verdicts of a run of the FSP study."""

from typing import Any

import numpy as np

from experiments.fsp.claims import SHARE, claims, difference, papers_table
from experiments.fsp.config import Config
from experiments.fsp.rows import FAST, SMALL, TRANSFER
from kd_heuristics.runs import judge_all, summary


def results(config: Config, arrays: dict) -> dict[str, Any]:
    """The tables, ours beside the paper's, and the verdicts."""

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

    found = statistics(config, arrays)
    speed = {}
    if config.fast:
        speed["share_of_steps_to_the_fast_teachers_loss"] = summary(found[SHARE])
    return speed | {
        "seeds": list(range(config.first_seed, config.first_seed + config.seeds)),
        "fast": {arm: row(arm) for arm in config.arms if arm in FAST},
        "small": {arm: row(arm) for arm in config.arms if arm in SMALL},
        "transfer": {arm: row(arm) for arm in config.arms if arm in TRANSFER},
        "paper": {name: papers_table(name) for name in config.paper_tables},
        "claims": judge_all(claims(config), found),
    }


def statistics(config: Config, arrays: dict) -> dict[str, np.ndarray]:
    """The numbers of the claims, a value a seed."""
    final = {
        arm: arrays[f"{arm}/test_accuracy"][..., -1].mean(1) for arm in config.arms
    }
    gaps = {difference(a, b): final[a] - final[b] for a in final for b in final}
    if not config.fast:
        return gaps
    gaps[difference("shuffled ensemble", "student ensemble")] = (
        arrays["shuffled/ensemble"] - arrays["student/ensemble"]
    )
    goal = arrays["teacher_fast/loss"][..., -1]
    share = share_of_steps(arrays["student/step"], arrays["student/loss"], goal)
    return gaps | {SHARE: share.mean(1)}


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
