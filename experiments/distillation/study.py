"""Where does a teacher's knowledge land in its student? (Figure 6 and section 5)

Paper: Gotmare et al. 2019, "A Closer Look at Deep Learning Heuristics".
Command: python -m experiments.distillation --preset demo | digits | cifar10
         python -m experiments.distillation --preset nulls | losses

Hardware and time: `digits`, minutes of CPU time a seed; `cifar10` not run.
docs/designs.md says how `digits` was chosen, docs/results.md what it found.

Shallow students learn from soft targets alone or from labels alone, for the same number
of steps. SVCCA maps compare both with the teacher, layer by layer; three more measures
and calibrated maps check them. Two nulls that the paper lacks: two students that share
nothing but the data, and a second teacher that the student never saw. A sweep over
temperatures, and students that first learn hints or flow matrices, show where other
kinds of knowledge land. Beside accuracy: how faithful each student is to its teacher on
train and test images (Stanton et al. 2021), as secondary claims. The preset `nulls`
sets the soft targets against targets of equal entropy without knowledge (`nulls.py`);
`losses` compares losses of `kd_heuristics.distill` at equal steps (`table.py`).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common import fidelity, maps, task
from experiments.common.own import Own
from experiments.common.study import Study, StudyRun, stacked
from experiments.distillation import figures, networks, table
from experiments.distillation.claims import claims
from experiments.distillation.config import PRESETS, Config
from experiments.distillation.networks import Networks
from experiments.distillation.plan import plan
from experiments.distillation.protocol import PROTOCOL
from experiments.distillation.results import compared, results
from experiments.distillation.students import (
    FIRST_STAGES,
    ByArm,
    drawn,
    following,
    teacher_of,
    teacher_seeds,
    train_distilled,
    train_labelled,
    train_losses,
    train_nulls,
    train_teachers,
)
from kd_heuristics.runs import RunFolder

PyTree = Any


def compute(
    config: Config, folder: RunFolder, progress, own: Own = task.NOTHING
) -> tuple[dict, dict]:
    """Trains, compares and judges; returns the run's `(results, arrays)`."""
    run = StudyRun(config, folder, progress, by=compute)
    nets = networks.choose(config, own)
    progress.start(total_steps(config, nets))

    teachers = train_teachers(run, nets, teacher_seeds(config))
    fresh = {seed: nets.student.start(seed) for seed in drawn(config)}
    starts = {("independent", seed): start for seed, start in fresh.items()}
    for kind in config.kinds:
        starts |= FIRST_STAGES[kind](run, nets, teachers, fresh)
    students = train_labelled(run, nets, starts)
    students |= train_distilled(run, nets, teachers, fresh)
    untaught, entropies = train_nulls(run, nets, teachers, fresh)
    students |= untaught
    train_losses(run, nets, teachers, fresh)

    arrays = compare_all(run, nets, teachers, students)
    arrays |= entropies
    arrays |= fidelity_of_all(run, nets, teachers, students)
    names = "loss", "test_loss", "test_accuracy"
    for arm in (*config.arms, *map(table.stage, config.losses)):
        arrays |= run.logged(arm, names)
    of_seeds = [teacher_of(config, seed) for seed in run.seeds]
    arrays |= run.logged("teacher", names, seeds=of_seeds)
    arrays["layers"] = np.array(nets.layers)
    arrays["teacher_layers"] = np.array(nets.teacher_layers)
    found = results(config, arrays, nets)
    if config.teachers == "one":  # that of each seed, which claims need
        found["trained"] = {"teacher": taught_by_one(run, of_seeds)}
    return found, arrays


def taught_by_one(run: StudyRun, teachers: Sequence[int]) -> dict[str, float]:
    """The final train accuracy of each seed's teacher, the same for all."""
    own = run.logged("teacher", ["accuracy"], seeds=teachers)["teacher/accuracy"]
    return dict(zip(map(str, run.seeds), own[:, -1].tolist(), strict=True))


def total_steps(config: Config, nets: Networks) -> int:
    """The training steps of all networks: the length of the bar."""
    epochs = len(teacher_seeds(config)) * config.teacher_epochs
    epochs += len(drawn(config)) * config.epochs
    taught = len(config.temperatures) + len(config.nulls) + len(config.losses)
    epochs += config.seeds * taught * config.epochs
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
    config = run.config
    run.progress.stage(f"seed {seed}: similarities")
    own = teacher_of(config, seed)
    teacher, second = teachers[own], teachers[following(teacher_seeds(config), own)]
    another = students["independent", following(drawn(config), seed)]
    pairs = {arm: (teacher, students[arm, seed]) for arm in config.arms} | {
        "other_independent": (teacher, another),
        "second/distilled": (second, students[config.distilled, seed]),
        "second/independent": (second, students["independent", seed]),
    }
    out: dict[str, np.ndarray] = {}
    for name, (first, student) in pairs.items():
        for kind, shuffle in (("map", False), ("floor", True)):
            found = maps.between(
                nets.teacher.classifier,
                first,
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


def fidelity_of_all(
    run: StudyRun, nets: Networks, teachers: Mapping[int, PyTree], students: ByArm
) -> dict[str, np.ndarray]:
    """Fidelity of each arm to its teacher on train and test, [seeds]."""

    def measure(seed):
        run.progress.stage(f"seed {seed}: fidelity")
        return fidelity.measure(
            {
                arm: (nets.student.classifier, students[arm, seed])
                for arm in run.config.arms
            },
            (nets.teacher.classifier, teachers[teacher_of(run.config, seed)]),
            nets.student.sets,
        )

    found = [run.stage(f"fidelity-seed{seed}", measure, seed) for seed in run.seeds]
    return stacked(found)


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
    own=networks.choose,
)
