"""Where does a teacher's knowledge land in its student? (Figure 6 and section 5)

Paper: Gotmare et al. 2019, "A Closer Look at Deep Learning Heuristics".
Command: python -m experiments.distillation --preset demo | digits | cifar10

Hardware and time: `digits`, 3 seeds, 23 minutes of CPU time, 20 on 2 cores busy with
other work; `cifar10` not run. `digits`, test accuracy: teacher 96.1 +- 1.0 %, students
of labels 92.6 +- 0.9 %, of soft targets at T = 5 91.6 +- 1.3 %, of hints first 90.7 +-
6.0 %, of flow matrices first 90.8 +- 0.9 %. FC layers change by 0.017 +- 0.007 more
than convolutions (the paper's maps: 0.020).

Shallow students learn soft targets alone, or labels alone, in equally many steps; SVCCA
maps compare both with the teacher, layer by layer, and maps by three more measures and
calibrated ones stand beside them. Beside the paper's maps the nulls that it lacks: two
students that have nothing in common but the data, and a second teacher that the student
never saw. Temperatures are swept, and students that learned hints or flow matrices
first show where other kinds of knowledge land.
"""

import functools
from typing import Any

import numpy as np

from experiments.common import maps
from experiments.common.study import Study
from experiments.distillation import figures
from experiments.distillation.claims import claims, deep, late_minus_early
from experiments.distillation.config import PRESETS, Config
from experiments.distillation.lab import Laboratory
from experiments.distillation.plan import plan
from experiments.distillation.protocol import PROTOCOL
from kd_heuristics.runs import judge_all, summary


def compute(config: Config, folder, progress) -> tuple[dict, dict]:
    """Trains, compares and judges; `(results, arrays)` of the run folder."""
    lab = Laboratory(config, folder, progress)
    found = [
        folder.stage(f"maps-seed{seed}", functools.partial(lab.maps, seed))
        for seed in lab.seeds
    ]
    arrays = {name: np.stack([own[name] for own in found]) for name in found[0]}
    arrays |= maps.all_calibrated(
        arrays, {f"map/{name}": f"floor/{name}" for name in _pairs(config)}
    )
    for arm in ("teacher", *config.arms):
        arrays |= lab.curves(arm)
    arrays["layers"] = np.array(lab.layers)
    arrays["teacher_layers"] = np.array(lab.teacher_layers)
    return results(config, arrays, lab), arrays


def _pairs(config: Config) -> tuple[str, ...]:
    """The maps, a teacher's layers against a student's each."""
    second = "second/distilled", "second/independent"
    return *config.arms, "other_independent", *second


def changes(config: Config, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Signed differences of maps, [seeds, teacher layers, student layers] each."""
    independent = arrays["map/independent"]
    arms = {
        arm: arrays[f"map/{arm}"] - independent
        for arm in config.arms
        if arm != "independent"
    }
    return arms | {
        # A student shares start and batches with the independent one of its seed. The
        # null does not, so that it is to be set against "unpaired", which has neither.
        "null": arrays["map/other_independent"] - independent,
        "unpaired": arrays["map/other_independent"] - arrays[f"map/{config.distilled}"],
        "second teacher": arrays["map/second/distilled"]
        - arrays["map/second/independent"],
    }


def statistics(config: Config, arrays: dict) -> dict[str, np.ndarray]:
    """The numbers of the claims, a value a seed."""
    final = {
        arm: arrays[f"{arm}/test_accuracy"][:, -1]
        for arm in ("independent", config.distilled)
    }
    return {
        "accuracy, distilled minus independent": (
            final[config.distilled] - final["independent"]
        ),
        **similarities(config, arrays),
    }


def similarities(config: Config, arrays: dict, kind: str = "") -> dict[str, np.ndarray]:
    """The numbers that maps alone tell; of the maps whose names end in `kind`."""
    seen = {f"map/{name}": arrays[f"map/{name}{kind}"] for name in _pairs(config)}
    found = changes(config, seen)
    fc = deep(list(arrays["layers"]))
    change = found[config.distilled]

    def size(values, columns):
        return np.abs(values)[..., columns].mean((1, 2))

    def signed(values):
        return values[..., fc].mean((1, 2))

    return {
        "change of FC layers minus change of convolutions": (
            size(change, fc) - size(change, ~fc)
        ),
        "FC layers: change towards late minus towards early layers": late_minus_early(
            change[..., fc]
        ),
        "FC layers: distance to another start, distilled minus independent": (
            size(found["unpaired"], fc) - size(found["null"], fc)
        ),
        "FC layers: change towards the teacher minus towards another": (
            signed(change) - signed(found["second teacher"])
        ),
    }


def results(config: Config, arrays: dict, lab: Laboratory) -> dict[str, Any]:
    """The numbers of the study, each with its seeds and spread, and the verdicts."""
    per_layer = {
        kind: {
            words: {
                layer: summary(rows)
                for layer, rows in zip(lab.layers, values.mean(1).T, strict=True)
            }
            for words, values in (("absolute", np.abs(change)), ("signed", change))
        }
        for kind, change in changes(config, arrays).items()
    }
    return {
        "seeds": list(lab.seeds),
        "final_test_accuracy": {
            arm: summary(arrays[f"{arm}/test_accuracy"][:, -1])
            for arm in ("teacher", *config.arms)
        },
        "pairs": {
            "hint": [lab.guided, lab.hint],
            **({"fsp": [lab.flow, lab.teacher_flow]} if "fsp" in config.kinds else {}),
        },
        "change_of_similarity": per_layer,
        "similarities_by_measure": maps.by_measure(
            functools.partial(similarities, config, arrays), config.measure
        ),
        "claims": judge_all(claims(config), statistics(config, arrays)),
    }


STUDY = Study(
    name="distillation",
    headline="Where does a teacher's knowledge go?",
    question="Where does a teacher's knowledge land in its student?",
    paper="Gotmare et al. 2019",
    answers=("fc-change", "fc-layers/another-start"),
    figure="figure6",
    subject="{teacher} teaches {model} on {dataset}",
    presets=PRESETS,
    protocol=PROTOCOL,
    compute=compute,
    figures=figures.figures,
    claims=claims,
    plan=plan,
)
