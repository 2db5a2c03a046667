"""Is a good teacher patient and consistent? (Figures 1 to 6, tables 1, 3 and 4)

Paper: Beyer et al. 2022, "Knowledge distillation: A good teacher is patient and
consistent" (FunMatch).
Command: python -m experiments.funmatch --preset demo | digits | cifar10 | flowers | ...
         python -m experiments.funmatch --preset flowers --sweep list | INDEX | gather

Hardware and time: `digits`, 3 seeds, 28 minutes of CPU time, 35 on 2 cores busy with
other work; the papers' sets not run. `digits`, test accuracy of students of 128 epochs:
FunMatch 87.6 +- 0.8 %, the same crop 86.7 +- 1.2 %, independent crops 84.6 +- 1.2 %, a
fixed teacher 84.5 +- 0.4 %; the teacher 88.5 %. After 8 epochs 33, 43, 31 and 48 %.

Students match a teacher's predictions on crops, without labels. The arms differ in who
sees which pixels, in the length of training, the resolution, the optimiser, the first
weights, the family of networks, the number of teachers and whose images are looked at;
beside them students of labels. All is reported of the last step, on the test set; what
was selected, was selected on the validation set. Beside accuracy: how far a student is
from its teacher on images that neither was trained on.
"""

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.common.study import Job, Study
from experiments.funmatch import figures
from experiments.funmatch.arms import ARMS, Setting
from experiments.funmatch.claims import against, claims, patience
from experiments.funmatch.config import PRESETS, Config, name
from experiments.funmatch.lab import Laboratory
from experiments.funmatch.protocol import PROTOCOL
from kd_heuristics.runs import judge_all, summary


def compute(config: Config, folder, progress) -> tuple[dict, dict]:
    """Trains, evaluates and judges; `(results, arrays)` of the run folder."""
    lab = Laboratory(config, folder, progress)
    arrays: dict[str, Any] = {}
    for arm in config.arms:
        for setting, seeds in config.plan(arm):
            found = lab.train(arm, setting, seeds)
            stage = name(arm, setting.epochs)
            arrays |= {f"{stage}/{key}": value for key, value in found.items()}
    return results(config, arrays, lab), arrays


def results(config: Config, arrays: dict, lab: Laboratory) -> dict[str, Any]:
    """The numbers of the study, each with its seeds and spread, and the verdicts."""
    table: dict[str, Any] = {}
    for arm in config.arms:
        table[arm] = {}
        for setting, seeds in config.plan(arm):
            stage = name(arm, setting.epochs)
            last = {
                key.removeprefix(f"{stage}/"): value[:, -1] if value.ndim > 1 else value
                for key, value in sorted(arrays.items())
                if key.startswith(f"{stage}/") and not key.endswith("/step")
            }
            table[arm][str(setting.epochs)] = {
                "steps": lab.steps(setting),
                "seeds": list(range(config.first_seed, config.first_seed + seeds)),
                "teacher_forwards": lab.forwards(ARMS[arm], setting),
                "setting": dataclasses.asdict(setting),
                **{key: summary(value) for key, value in last.items()},
            }
    return {
        "seeds": list(range(config.first_seed, config.first_seed + config.seeds)),
        "teacher_accuracy": lab.held_out.teacher_accuracy(),
        "arms": table,
        "selected": {arm: selected(lengths) for arm, lengths in table.items()},
        "claims": judge_all(claims(config), statistics(config, arrays)),
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


def statistics(config: Config, arrays: dict) -> dict[str, np.ndarray]:
    """The numbers of the claims, a value a seed."""
    epochs = [setting.epochs for setting in config.settings]
    final = {
        (arm, length): arrays[f"{name(arm, length)}/test_accuracy"]
        for arm in config.main
        for length in epochs
    }
    longest = {
        against(arm, other): final[arm, epochs[-1]] - final[other, epochs[-1]]
        for arm in config.main
        for other in config.main
    }
    return longest | {
        patience(arm): final[arm, epochs[-1]] - final[arm, epochs[0]]
        for arm in config.main
    }


def jobs(config: Config) -> list[Job]:
    """The paper's grid: a job for each arm, length, rate, decay and temperature."""
    grid, found = config.grid, []
    for arm in config.arms:
        # Labels are matched at temperature 1.
        temperatures = (1.0,) if ARMS[arm].labels else grid.temperatures
        for setting, _ in config.plan(arm):
            for rate, decay, temperature in itertools.product(
                grid.rates, grid.decays, temperatures
            ):
                own = Setting(
                    epochs=setting.epochs,
                    rate=rate,
                    decay=decay,
                    temperature=temperature,
                )
                alone = dataclasses.replace(
                    config, seeds=1, settings=(own,), main=(arm,), other_arms=()
                )
                found.append(Job(name(arm, setting.epochs), alone))
    return found


def scores(results: dict[str, Any]) -> tuple[float, dict[str, Any]]:
    """The validation accuracy of a job, and its setting and test accuracy."""
    ((lengths,),) = (results["arms"].values(),)
    ((found,),) = (lengths.values(),)
    report = {key: found[key] for key in ("setting", "test_accuracy", "test_kl")}
    return found["validation_accuracy"]["mean"], report


STUDY = Study(
    name="funmatch",
    headline="Does patience pay?",
    question="Is a good teacher patient and consistent?",
    paper="Beyer et al. 2022",
    answers=("patience",),
    figure="patience",
    subject="{teacher} teaches {model} on {dataset}",
    presets=PRESETS,
    protocol=PROTOCOL,
    paper_preset="flowers",
    compute=compute,
    figures=figures.figures,
    claims=claims,
    jobs=jobs,
    scores=scores,
)
