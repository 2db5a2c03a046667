"""The trainings of the distillation study: teachers, first stages, students.

A start is `(params, batch_stats)`. All networks of one function form one population.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common import teaching
from experiments.common.study import StudyRun
from experiments.common.task import Task
from experiments.distillation.config import Config, soft
from experiments.distillation.networks import Networks
from kd_heuristics import distill, training

PyTree = Any
Start = tuple[PyTree, PyTree]
TEACHERS = 10_000  # added to a seed: a teacher shares neither start nor batches


def train_teachers(
    run: StudyRun, nets: Networks, seeds: Sequence[int]
) -> dict[int, PyTree]:
    """Trains one teacher per seed; returns their variables by seed."""
    config, its = run.config, nets.teacher
    sgd = optimizer(
        config, its, config.teacher_rate, config.teacher_epochs, config.clip_norm
    )
    members = [
        teaching.member(
            f"teacher-seed{seed}",
            TEACHERS + seed,
            its.classifier.supervised,
            its.start(TEACHERS + seed),
            sgd,
        )
        for seed in seeds
    ]
    run.progress.stage(f"training {len(members)} teachers")
    state = run.train(
        "teachers", members, its, config.teacher_epochs, evaluate=its.tested
    )
    return _variables(state, seeds)


def train_hints(
    run: StudyRun,
    nets: Networks,
    teachers: Mapping[int, PyTree],
    starts: Mapping[int, Start],
) -> dict[int, Start]:
    """Trains the first stage of FitNets: the layers up to the guided one, by hints."""
    its = nets.student
    student = teaching.Student(its.classifier, teaching.Layer(nets.guided))
    taught = teaching.Taught(nets.teacher.classifier, teaching.Layer(nets.hint))
    objectives, below, rests = {}, {}, {}
    for seed in run.seeds:
        variables = training.with_stats(*starts[seed])
        part, rests[seed] = teaching.below(
            its.classifier, variables, nets.guided, its.train.images
        )
        regressor = nets.regressor.init(jax.random.key(seed))
        below[seed] = (
            {"student": part["params"], "regressor": regressor},
            starts[seed][1],
        )
        teacher = distill.Teacher(taught, teachers[seed])
        objectives[seed] = distill.hint_stage(
            student, teacher, nets.regressor, rests[seed]
        )
    found = _train_first(run, nets, "hint", objectives, below)
    return teaching.merged(found, rests)


def train_flows(
    run: StudyRun,
    nets: Networks,
    teachers: Mapping[int, PyTree],
    starts: Mapping[int, Start],
) -> dict[int, Start]:
    """Trains the first stage of FSP: all layers, by the teacher's flow matrix."""
    assert nets.teacher_flow is not None
    student = teaching.Student(nets.student.classifier, teaching.Pairs((nets.flow,)))
    taught = teaching.Taught(
        nets.teacher.classifier, teaching.Pairs((nets.teacher_flow,))
    )
    objectives = {
        seed: distill.matching_stage(
            student, distill.Teacher(taught, teachers[seed]), distill.fsp_loss
        )
        for seed in run.seeds
    }
    return _train_first(run, nets, "fsp", objectives, starts)


FIRST_STAGES = {"hint": train_hints, "fsp": train_flows}


def _train_first(run, nets, kind, objectives, starts) -> dict[int, Start]:
    """Trains a first stage, one student per seed."""
    config, epochs = run.config, run.config.first_stage_epochs
    sgd = optimizer(
        config,
        nets.student,
        config.first_stage_rate,
        epochs,
        config.first_stage_clip_norm,
    )
    name = f"{kind}-stage"
    members = [
        teaching.member(f"{name}-seed{seed}", seed, objectives[seed], starts[seed], sgd)
        for seed in run.seeds
    ]
    run.progress.stage(f"training {len(members)} networks, {name}")
    state = run.train(name, members, nets.student, epochs)
    return teaching.members_of(state, run.seeds)


def train_labelled(
    run: StudyRun, nets: Networks, starts: Mapping[tuple[str, int], Start]
) -> dict[tuple[str, int], PyTree]:
    """Trains on labels alone; returns `{(arm, seed): variables}`.

    Args:
      run: of the study.
      nets: both networks.
      starts: by arm and seed; fresh, or after a first stage.
    """
    supervised = nets.student.classifier.supervised
    objectives = dict.fromkeys(starts, supervised)
    return _train_last(run, nets, "labelled", objectives, starts)


def train_distilled(
    run: StudyRun,
    nets: Networks,
    teachers: Mapping[int, PyTree],
    starts: Mapping[int, Start],
) -> dict[tuple[str, int], PyTree]:
    """Trains on soft targets alone; returns `{(arm, seed): variables}`."""
    student = teaching.Student(nets.student.classifier, teaching.logits)
    taught = teaching.Taught(nets.teacher.classifier, teaching.logits)
    objectives = {
        (soft(temperature), seed): distill.matching_stage(
            student,
            distill.Teacher(taught, teachers[seed]),
            jax.tree_util.Partial(_kl, jnp.float32(temperature)),
        )
        for seed in run.seeds
        for temperature in run.config.temperatures
    }
    starts = {(arm, seed): starts[seed] for arm, seed in objectives}
    return _train_last(run, nets, "distilled", objectives, starts)


def _train_last(run, nets, name, objectives, starts) -> dict[tuple[str, int], PyTree]:
    """Trains the last stage of students, by arm and seed."""
    config = run.config
    sgd = optimizer(config, nets.student, config.rate, config.epochs, config.clip_norm)
    members = [
        teaching.member(f"{arm}-seed{seed}", seed, objective, starts[arm, seed], sgd)
        for (arm, seed), objective in objectives.items()
    ]
    run.progress.stage(f"training {len(members)} networks, {name}")
    state = run.train(
        name, members, nets.student, config.epochs, evaluate=nets.student.tested
    )
    return _variables(state, objectives)


@dataclasses.dataclass(frozen=True)
class _Sgd:
    """SGD by a table of rates. Equal ones share compiled programs."""

    momentum: float
    weight_decay: float

    def __call__(self, rates, clip_norm):
        return training.sgd(
            lambda step: rates[step], self.momentum, self.weight_decay, clip_norm
        )


def optimizer(
    config: Config, its: Task, peak: float, epochs: int, clip_norm: float | None
):
    """Returns SGD whose rate falls from `peak` to 0 within the epochs."""
    rates = config.rates(peak, epochs * its.steps_per_epoch)
    largest = np.inf if clip_norm is None else clip_norm
    make = _Sgd(config.momentum, config.weight_decay)
    return training.bind(make, jnp.asarray(rates), jnp.float32(largest))


def _kl(temperature, student, teacher):
    """`distill.kl` with its temperature first, to bind it as an array."""
    return distill.kl(student, teacher, temperature)


def _variables(state, names) -> dict[Any, PyTree]:
    """The variables of each member of a population, by name."""
    found = teaching.members_of(state, names)
    return {name: training.with_stats(*own) for name, own in found.items()}
