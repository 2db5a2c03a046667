"""Does the flow between a teacher's layers make its student faster and better?

Paper: Yim et al. 2017, "A Gift from Knowledge Distillation", tables 1 to 5, figure 3.
Command: python -m experiments.fsp --preset demo | digits | cifar10 | cifar100 | cub

Hardware and time: `digits`, 3 seeds, 25 minutes of CPU time, 55 on 2 cores busy with
other work; the papers' sets not run. `digits`, test accuracy: full training 91.2 +- 0.5
%, a third of it 72.6 +- 4.5 %, after flow matrices 86.4 +- 0.4 %, after hints 89.0 +-
2.3 %; small nets: labels 89.5, FitNets 92.8, flow matrices 92.1, soft targets 91.8 %.

Table 1: nets of one form, trained in full, in a third of the steps, again from a full
training, or after a first stage that gives them a teacher's hints or flow matrices;
singly and as ensembles. Table 3: a smaller net, taught likewise; beside the paper's
rows soft targets, alone and after flow matrices. Table 5 (`cub`): a teacher of
ImageNet, tuned to birds, teaches a smaller net; on the other sets a teacher of half of
the classes is tuned to the other half.
"""

import functools
from typing import Any

import numpy as np

from experiments.common.study import Study
from experiments.fsp import figures
from experiments.fsp.claims import SHARE, claims, difference, papers_table
from experiments.fsp.config import PRESETS, Config
from experiments.fsp.lab import Laboratory
from experiments.fsp.plan import plan
from experiments.fsp.protocol import PROTOCOL
from experiments.fsp.rows import FAST, SMALL, TRANSFER
from kd_heuristics.runs import judge_all, summary


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


def compute(config: Config, folder, progress) -> tuple[dict, dict]:
    """Trains all rows and judges; `(results, arrays)` of the run folder."""
    lab = Laboratory(config, folder, progress)
    arrays: dict[str, np.ndarray] = {}
    for arm in config.arms:
        lab.row(arm)
        arrays |= lab.curves(arm)
        if arm in FAST:
            together = functools.partial(lab.ensemble, arm)
            arrays |= folder.stage(f"ensemble-{arm}", together)
    return results(config, arrays), arrays


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


STUDY = Study(
    name="fsp",
    headline="Is the flow of a solution a good teacher?",
    question="Does a teacher's flow make its student faster and better?",
    paper="Yim et al. 2017",
    figure="tables",
    subject="{teacher} on {dataset}",
    presets=PRESETS,
    protocol=PROTOCOL,
    compute=compute,
    figures=figures.figures,
    claims=claims,
    plan=plan,
)
