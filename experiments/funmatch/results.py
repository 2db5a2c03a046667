"""The numbers of a FunMatch run."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.common import fidelity
from experiments.funmatch.arms import ARMS
from experiments.funmatch.claims import faithful, of_longest, statistics
from experiments.funmatch.config import name
from experiments.funmatch.materials import Materials
from experiments.funmatch.students import teacher_forwards
from kd_heuristics.runs import summary


def results(
    its: Materials, arrays: dict, teacher_accuracy: dict[str, float], seeds: list[int]
) -> dict[str, Any]:
    """The numbers of the study with seeds and spread, and the claims' statistics."""
    config = its.config
    table: dict[str, Any] = {}
    for arm in config.arms:
        table[arm] = {}
        for setting, count in config.plan(arm):
            stage = name(arm, setting.epochs)
            last = {
                key.removeprefix(f"{stage}/"): value[:, -1] if value.ndim > 1 else value
                for key, value in sorted(arrays.items())
                if key.startswith(f"{stage}/") and not key.endswith("/step")
            }
            table[arm][str(setting.epochs)] = {
                "steps": its.steps(setting.epochs),
                "seeds": list(range(config.first_seed, config.first_seed + count)),
                "teacher_forwards": teacher_forwards(its, ARMS[arm], setting),
                "setting": dataclasses.asdict(setting),
                **{key: summary(value) for key, value in last.items()},
            }
    return {
        "seeds": seeds,
        "teacher_accuracy": teacher_accuracy,
        "arms": table,
        "selected": {arm: selected(lengths) for arm, lengths in table.items()},
        "statistics": statistics(config, arrays, teacher_accuracy["test"])
        | fidelity.statistics(faithful(config), of_longest(table)),
    }


def selected(lengths: dict[str, Any]) -> dict[str, Any]:
    """The length of the best validation accuracy, with its test accuracy.

    >>> runs = {"1": {"validation_accuracy": {"mean": 0.5}, "test_accuracy": 1},
    ...         "4": {"validation_accuracy": {"mean": 0.7}, "test_accuracy": 2}}
    >>> selected(runs)
    {'epochs': 4, 'test_accuracy': 2}
    """
    best = max(lengths, key=lambda key: _score(lengths[key]))
    return {"epochs": int(best), "test_accuracy": lengths[best]["test_accuracy"]}


def _score(run: Mapping[str, Any]) -> float:
    """The validation accuracy; below any other where it is not finite."""
    mean = run["validation_accuracy"]["mean"]
    return mean if np.isfinite(mean) else -np.inf
