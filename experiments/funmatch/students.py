"""Trains the students of the FunMatch study."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common.study import StudyRun
from experiments.funmatch import lessons, optimizers, sets
from experiments.funmatch.arms import ARMS, Arm, Setting
from experiments.funmatch.config import Config, name
from experiments.funmatch.held import HeldOut
from experiments.funmatch.materials import Materials
from experiments.funmatch.teachers import Teachers
from kd_heuristics import data, distill, training


def train_students(
    run: StudyRun,
    its: Materials,
    taught_by: Teachers,
    held: HeldOut,
    arm_name: str,
    setting: Setting,
    seeds: int,
) -> dict[str, np.ndarray]:
    """Trains and evaluates an arm at one length: `{"mix@8/kl": [seeds, points]}`."""
    config, arm = run.config, ARMS[arm_name]
    stage, steps = name(arm_name, setting.epochs), its.steps(setting.epochs)
    objective = lesson(run, its, taught_by, arm, setting)
    run.progress.training(stage)
    drawn = range(config.first_seed, config.first_seed + seeds)
    members = []
    for seed in drawn:
        start = (
            taught_by.pretrained
            if arm.init == "pretrained"
            else its.start(arm.family, seed, config.sizes(arm)[1])
        )
        assert start is not None, f"{arm_name} has no pretrained student"
        members.append(
            training.Member(
                objective=objective,
                params=start[0],
                batch_stats=start[1],
                optimizer=optimizers.create(
                    config, arm.optimizer, setting.rate, setting.decay, steps
                ),
                seed=seed,
                stage=f"{stage}-seed{seed}",
            )
        )
    measure = functools.partial(
        held.metrics, its.classifiers[arm.family], config.sizes(arm)[1]
    )
    whose = "train" if arm.images == "own" else arm.images
    state = run.population(
        stage,
        members,
        its.sets.batches(whose, view(its, arm), config.first_seed),
        num_steps=steps,
        log_every_steps=max(1, steps // config.points),
        evaluate=functools.partial(measure, "validation"),
        **its.training_options,
    )
    found = logged(run, [member.stage for member in members])
    found = found | measure("test", state) | {"step": found["step"][0].astype(int)}
    found |= held.fidelity(its.classifiers[arm.family], config.sizes(arm)[1], state)
    return {f"{stage}/{key}": value for key, value in found.items()}


def logged(run: StudyRun, stages: list[str]) -> dict[str, np.ndarray]:
    """Reads all logged metrics of some trainings: `{name: float [stages, points]}`."""
    lines = [run.metrics.read(stage) for stage in stages]
    return {
        key: np.array([[row[key] for row in own] for own in lines], np.float64)
        for key in lines[0][0]
        if key != "stage"
    }


def view(its: Materials, arm: Arm) -> data.views.View:
    """Makes the view of an arm: which pixels teacher and student see."""
    teacher_size, student_size = its.config.sizes(arm)
    return its.view(
        arm.view,
        teacher_size=teacher_size,
        student_size=student_size,
        mixup=arm.mixup,
    )


def lesson(
    run: StudyRun, its: Materials, taught_by: Teachers, arm: Arm, setting: Setting
) -> Any:
    """Makes the objective of an arm's student."""
    student, seen = its.classifiers[arm.family], view(its, arm)
    if arm.labels:
        return lessons.Labels(student, seen)
    return jax.tree_util.Partial(
        lessons.Matching(student, seen),
        jnp.float32(setting.temperature),
        teacher_of(run, its, taught_by, arm, setting),
    )


def teacher_of(
    run: StudyRun, its: Materials, taught_by: Teachers, arm: Arm, setting: Setting
) -> distill.Teacher:
    """Makes an arm's teacher, a function of its view's output."""
    network = its.classifiers["teacher"]
    # A stream cuts the pixels of a fixed teacher, the same at every step.
    online = its.config.streamed and arm.view != "fix/ic_ens"
    if arm.view.startswith("fix/") and not online:
        of_pixels = distill.Teacher(lessons.Looks(network), taught_by.first)
        return distill.stored(targets(run, its, of_pixels, arm, setting))
    own = distill.Teacher(lessons.Sees(network), taught_by.first)
    if not arm.ensemble:
        return own
    other = distill.Teacher(lessons.Sees(network, "student"), taught_by.second)
    return distill.mean_of_logits([own, other])


def targets(
    run: StudyRun, its: Materials, teacher: distill.Teacher, arm: Arm, setting: Setting
) -> Any:
    """Computes the stored logits [n, classes] of the training images.

    Raises:
      ValueError: they do not fit into a device's memory.
    """
    config = its.config
    if arm.view != "fix/ic_ens":
        assert its.sets.train is not None  # a stream cuts what a fixed teacher sees
        return sets.logits(
            teacher,
            its.sets.train,
            config.eval_batch_size,
            config.sizes(arm)[0],
            config.fraction,
            "whole" if arm.view == "fix/rs" else "central",
            its.mesh,
        )
    count = crops(config, arm, setting)
    run.progress.stage(f"targets of {count} crops an image")
    file = f"targets-{count}-{setting.temperature:g}.npz"
    options: dict[str, Any] = {
        "crops": count,
        "temperature": setting.temperature,
        "batch_size": config.eval_batch_size,
        "path": run.folder.path / "stages" / file,
    }
    if its.sets.train is not None:
        return data.ensemble_targets(teacher, its.sets.train, view(its, arm), **options)
    return data.ensemble_targets_of_originals(
        teacher,
        config.dataset,
        "train",
        view(its, arm),
        on_bad=config.on_bad,
        **options,
    )


def crops(config: Config, arm: Arm, setting: Setting) -> int:
    """Returns the number of crops over which an arm's stored targets are averaged."""
    return setting.epochs if arm.equal_forwards else config.ensemble_crops


def teacher_forwards(its: Materials, arm: Arm, setting: Setting) -> int:
    """Returns how many images the teachers of one student see in total."""
    config = its.config
    if arm.labels:
        return 0
    if arm.view == "fix/ic_ens":
        return crops(config, arm, setting) * its.sets.num_examples
    if arm.view.startswith("fix/") and not config.streamed:
        return its.sets.num_examples
    return its.steps(setting.epochs) * config.batch_size * (1 + arm.ensemble)
