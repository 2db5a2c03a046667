"""Where does a teacher's knowledge land in its student? (Figure 6 and section 5)

Paper: Gotmare et al. 2019, "A Closer Look at Deep Learning Heuristics".
Command: python -m experiments.distillation --preset demo | digits | cifar10

Hardware and time: `digits`, 3 seeds, 23 minutes of CPU time, 20 on 2 cores busy with
other work; `cifar10` not run. `digits`, test accuracy: teacher 96.1 +- 1.0 %, students
of labels 92.6 +- 0.9 %, of soft targets at T = 5 91.6 +- 1.3 %, of hints first 90.7 +-
6.0 %, of flow matrices first 90.8 +- 0.9 %. FC layers change by 0.017 +- 0.007 more
than convolutions (the paper's maps: 0.020).

Shallow students learn from soft targets alone or from labels alone, for the same number
of steps. SVCCA maps compare both with the teacher, layer by layer; three more measures
and calibrated maps check them. Two nulls that the paper lacks: two students that share
nothing but the data, and a second teacher that the student never saw. A sweep over
temperatures, and students that first learn hints or flow matrices, show where other
kinds of knowledge land.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common import maps
from experiments.common.study import Study, StudyRun
from experiments.distillation import figures, networks
from experiments.distillation.claims import claims
from experiments.distillation.config import PRESETS, Config
from experiments.distillation.networks import Networks
from experiments.distillation.plan import plan
from experiments.distillation.protocol import PROTOCOL
from experiments.distillation.results import compared, results
from experiments.distillation.students import (
    FIRST_STAGES,
    ByArm,
    train_distilled,
    train_labelled,
    train_teachers,
)
from kd_heuristics.runs import RunFolder

PyTree = Any


def compute(config: Config, folder: RunFolder, progress) -> tuple[dict, dict]:
    """Trains, compares and judges; returns the run's `(results, arrays)`."""
    run = StudyRun(config, folder, progress, by=compute)
    nets = networks.choose(config)
    seeds = drawn(config)
    progress.start(total_steps(config, nets))

    teachers = train_teachers(run, nets, seeds)
    fresh = {seed: nets.student.start(seed) for seed in seeds}
    starts = {("independent", seed): fresh[seed] for seed in seeds}
    for kind in config.kinds:
        starts |= FIRST_STAGES[kind](run, nets, teachers, fresh)
    students = train_labelled(run, nets, starts)
    students |= train_distilled(run, nets, teachers, fresh)

    arrays = compare_all(run, nets, teachers, students)
    for arm in ("teacher", *config.arms):
        arrays |= run.logged(arm, ("loss", "test_loss", "test_accuracy"))
    arrays["layers"] = np.array(nets.layers)
    arrays["teacher_layers"] = np.array(nets.teacher_layers)
    return results(config, arrays, nets), arrays


def drawn(config: Config) -> range:
    """The seeds with a teacher and an independent student of their own.

    At least two: the nulls of a seed are the networks of the next one.
    """
    return range(config.first_seed, config.first_seed + max(config.seeds, 2))


def other(config: Config, seed: int) -> int:
    """The seed whose networks are the nulls of this one."""
    seeds = drawn(config)
    return seeds[(seeds.index(seed) + 1) % len(seeds)]


def total_steps(config: Config, nets: Networks) -> int:
    """The training steps of all networks: the length of the bar."""
    epochs = len(drawn(config)) * (config.teacher_epochs + config.epochs)
    epochs += config.seeds * len(config.temperatures) * config.epochs
    kinds = config.seeds * len(config.kinds)
    epochs += kinds * (config.first_stage_epochs + config.epochs)
    return epochs * nets.student.steps_per_epoch


def compare_all(
    run: StudyRun, nets: Networks, teachers: Mapping[int, PyTree], students: ByArm
) -> dict[str, np.ndarray]:
    """Maps, floors and calibrated maps, `{"map/independent": [seeds, ...], ...}`."""
    images = nets.student.train.take(run.config.map_examples).images
    images = nets.student.place(jnp.asarray(images))
    found = [
        run.stage(
            f"maps-seed{seed}", compare, run, nets, images, teachers, students, seed
        )
        for seed in run.seeds
    ]
    arrays = {name: np.stack([own[name] for own in found]) for name in found[0]}
    floors = {f"map/{name}": f"floor/{name}" for name in compared(run.config)}
    return arrays | maps.all_calibrated(arrays, floors)


def compare(
    run: StudyRun,
    nets: Networks,
    images: jax.Array,
    teachers: Mapping[int, PyTree],
    students: ByArm,
    seed: int,
) -> dict[str, np.ndarray]:
    """The maps of one seed, [teacher layers, student layers], and their floors."""
    config, null = run.config, other(run.config, seed)
    run.progress.stage(f"seed {seed}: similarities")
    pairs = {arm: (teachers[seed], students[arm, seed]) for arm in config.arms} | {
        "other_independent": (teachers[seed], students["independent", null]),
        "second/distilled": (teachers[null], students[config.distilled, seed]),
        "second/independent": (teachers[null], students["independent", seed]),
    }
    out: dict[str, np.ndarray] = {}
    for name, (teacher, student) in pairs.items():
        for kind, shuffle in (("map", False), ("floor", True)):
            found = maps.between(
                nets.teacher.classifier,
                teacher,
                student,
                images,
                config.measure,
                batch_size=config.eval_batch_size,
                beside=maps.BESIDE,
                other=nets.student.classifier,
                shuffle=shuffle,
                mesh=nets.student.mesh,
            )
            out |= maps.named(f"{kind}/{name}", found, config.measure)
    return out


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
    shared=("layers", "teacher_layers"),
)
