"""The trainings of the distillation study: teachers, first stages, students.

A start is `(params, batch_stats)`. Each function trains one population.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common import teaching
from experiments.common.study import StudyRun
from experiments.common.task import Task
from experiments.distillation import nulls, table
from experiments.distillation.config import Config, soft
from experiments.distillation.contrast import tested
from experiments.distillation.networks import Networks
from kd_heuristics import distill, training

PyTree = Any
Start = tuple[PyTree, PyTree]
ByArm = dict[tuple[str, int], Any]  # by arm and seed
TEACHERS = 10_000  # added to a seed: a teacher shares neither start nor batches


def drawn(config: Config) -> range:
    """The seeds with an independent student of their own.

    At least two: the nulls of a seed are the networks of the next one.
    """
    return range(config.first_seed, config.first_seed + max(config.seeds, 2))


def teacher_seeds(config: Config) -> range:
    """The seeds of the teachers: one that teaches and one as a null, or all `drawn`."""
    return drawn(config)[:2] if config.teachers == "one" else drawn(config)


def teacher_of(config: Config, seed: int) -> int:
    """The seed of the teacher of a student."""
    return config.first_seed if config.teachers == "one" else seed


def following(seeds: range, seed: int) -> int:
    """The seed after this one, the first after the last: whose networks are its nulls.

    >>> following(range(4, 6), 5)
    4
    """
    return seeds[(seeds.index(seed) + 1) % len(seeds)]


def train_teachers(
    run: StudyRun, nets: Networks, seeds: Sequence[int]
) -> dict[int, PyTree]:
    """Trains teachers; returns their variables by seed.

    Args:
      run: of the study.
      nets: both networks.
      seeds: of the teachers, as `teacher_seeds` gives them.
    """
    config, its = run.config, nets.teacher
    epochs = config.teacher_epochs
    sgd = optimizer(config, its, config.teacher_rate, epochs, config.clip_norm)
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
    run.progress.training(f"training {len(members)} networks, teachers")
    state = run.train("teachers", members, its, epochs, evaluate=its.tested)
    return _variables(teaching.members_of(state, seeds))


def train_hints(
    run: StudyRun, nets: Networks, teachers: dict[int, PyTree], fresh: dict[int, Start]
) -> ByArm:
    """Trains the layers up to the guided one by hints: the first stage of FitNets."""
    arms = {seed: ("hint", seed) for seed in run.seeds}
    assert nets.guided is not None
    assert nets.hint is not None
    objectives, parts, rests = teaching.hints(
        nets.student,
        nets.teacher,
        [(nets.guided, nets.hint)],
        {arm: teachers[teacher_of(run.config, seed)] for seed, arm in arms.items()},
        {arm: fresh[seed] for seed, arm in arms.items()},
        {arm: [jax.random.key(seed)] for seed, arm in arms.items()},
    )
    found = _train(run, nets, "hint-stage", objectives, parts, first=True)
    return teaching.merged(found, rests)


def train_flows(
    run: StudyRun, nets: Networks, teachers: dict[int, PyTree], fresh: dict[int, Start]
) -> ByArm:
    """Trains all layers by the teacher's flow matrix: the first stage of FSP."""
    assert nets.flow is not None
    assert nets.teacher_flow is not None
    student = teaching.Student(nets.student.classifier, teaching.Pairs((nets.flow,)))
    read = teaching.Pairs((nets.teacher_flow,))
    taught = teaching.Taught(nets.teacher.classifier, read)
    objectives = {
        ("fsp", seed): distill.matching_stage(
            student,
            distill.Teacher(taught, teachers[teacher_of(run.config, seed)]),
            distill.fsp_loss,
        )
        for seed in run.seeds
    }
    starts = {(arm, seed): fresh[seed] for arm, seed in objectives}
    return _train(run, nets, "fsp-stage", objectives, starts, first=True)


FIRST_STAGES = {"hint": train_hints, "fsp": train_flows}


def train_labelled(run: StudyRun, nets: Networks, starts: ByArm) -> ByArm:
    """Trains students on labels alone; returns their variables."""
    objectives = dict.fromkeys(starts, nets.student.classifier.supervised)
    return _variables(_train(run, nets, "labelled", objectives, starts))


def train_distilled(
    run: StudyRun, nets: Networks, teachers: dict[int, PyTree], fresh: dict[int, Start]
) -> ByArm:
    """Trains students on soft targets alone; returns their variables."""
    student = teaching.Student(nets.student.classifier)
    taught = teaching.Taught(nets.teacher.classifier)
    objectives = {
        (soft(temperature), seed): distill.matching_stage(
            student,
            distill.Teacher(taught, teachers[teacher_of(run.config, seed)]),
            jax.tree_util.Partial(_kl, jnp.float32(temperature)),
        )
        for seed in run.seeds
        for temperature in run.config.temperatures
    }
    starts = {(arm, seed): fresh[seed] for arm, seed in objectives}
    return _variables(_train(run, nets, "distilled", objectives, starts))


def train_losses(
    run: StudyRun, nets: Networks, teachers: dict[int, PyTree], fresh: dict[int, Start]
) -> None:
    """Trains the students of the table of losses, a population for each."""
    its = nets.student
    for name in run.config.losses:
        arm, objectives, starts = table.stage(name), {}, {}
        for seed in run.seeds:
            taught = teachers[teacher_of(run.config, seed)]
            own = table.prepare(name, nets, taught, fresh[seed], seed)
            objectives[arm, seed], starts[arm, seed] = own
        stateful = {"its": its.indexed(), "tested": functools.partial(tested, its)}
        options = stateful if name == "crd" else {}
        _train(run, nets, arm, objectives, starts, **options)


def train_nulls(
    run: StudyRun, nets: Networks, teachers: dict[int, PyTree], fresh: dict[int, Start]
) -> tuple[ByArm, dict[str, np.ndarray]]:
    """Trains the nulls; returns their variables, and the entropies of their targets."""
    if not run.config.nulls:
        return {}, {}
    seeds = teacher_seeds(run.config)
    objectives, entropies = nulls.objectives(
        run,
        nets,
        teachers,
        lambda seed: teacher_of(run.config, seed),
        lambda seed: following(seeds, teacher_of(run.config, seed)),
    )
    starts = {(arm, seed): fresh[seed] for arm, seed in objectives}
    return _variables(_train(run, nets, "nulls", objectives, starts)), entropies


def _train(
    run, nets, name, objectives, starts, *, first=False, its=None, tested=None
) -> ByArm:
    """Trains a population of students, in a first or the last stage.

    `its` and `tested` stand for the student's task and its test.
    """
    config, its = run.config, its or nets.student
    rate, epochs, clip_norm = config.rate, config.epochs, config.clip_norm
    if first:
        rate, epochs = config.first_stage_rate, config.first_stage_epochs
        clip_norm = config.first_stage_clip_norm
    sgd = optimizer(config, its, rate, epochs, clip_norm)
    members = [
        teaching.member(
            f"{name if first else arm}-seed{seed}",
            seed,
            objectives[arm, seed],
            start,
            sgd,
        )
        for (arm, seed), start in starts.items()
    ]
    run.progress.training(f"training {len(members)} networks, {name}")
    tested = None if first else tested or its.tested
    state = run.train(name, members, its, epochs, evaluate=tested)
    return teaching.members_of(state, list(starts))


@dataclasses.dataclass(frozen=True)
class _Sgd:
    """SGD by a table of rates. Equal ones share compiled programs."""

    momentum: float
    weight_decay: float
    mask: Callable

    def __call__(self, rates, clip_norm):
        return training.sgd(
            lambda step: rates[step],
            self.momentum,
            self.weight_decay,
            clip_norm,
            mask=self.mask,
        )


def optimizer(
    config: Config, its: Task, peak: float, epochs: int, clip_norm: float | None
):
    """Returns SGD whose rate falls from `peak` to 0 within the epochs."""
    rates = config.rates(peak, epochs * its.steps_per_epoch)
    largest = np.inf if clip_norm is None else clip_norm
    make = _Sgd(config.momentum, config.weight_decay, config.decay_mask)
    return training.bind(make, jnp.asarray(rates), jnp.float32(largest))


def _kl(temperature, student, teacher):
    """`distill.kl` with its temperature first, to bind it as an array."""
    return distill.kl(student, teacher, temperature)


def _variables(found: Mapping[Any, Start]) -> dict[Any, PyTree]:
    """The same networks as variables."""
    return {name: training.with_stats(*own) for name, own in found.items()}
