"""How the nets of a stage of the FSP study start, and what they learn."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common import teaching
from experiments.common.study import StudyRun
from experiments.common.task import Task
from experiments.fsp import tasks
from experiments.fsp.config import Config
from experiments.fsp.nets import (
    Net,
    Shuffled,
    distance,
    guides,
    number,
    stage_name,
)
from experiments.fsp.rows import HINTS
from experiments.fsp.stages import Stage
from kd_heuristics import distill, training

PyTree = Any
Starts = dict[Net, tuple]  # of each net: params, batch_stats
Objectives = dict[Net, Callable]
_NEVER = 2**30  # a step that no run reaches


def train(
    run: StudyRun,
    its: Mapping[tuple[str, str], Task],
    stage: Stage,
    trained: Mapping[str, Starts],
) -> Starts:
    """Trains the nets of a stage; returns their parameters and statistics.

    Args:
      run: of the study.
      its: tasks by part of the classes and size of the net.
      stage: to train.
      trained: the stages before, by name.
    """
    student, teacher = its[stage.part, stage.size], its[stage.part, "large"]
    starts = begin(run.config, student, stage, trained)
    teachers = _teachers(stage, trained)
    batches, rests = student.batches, None
    if stage.lesson == "labels":
        objectives = dict.fromkeys(starts, student.classifier.supervised)
    elif stage.lesson == "soft":
        objectives = _soft(run.config, stage, student, teacher, teachers)
        batches = distill.numbered(batches)
    elif stage.lesson in HINTS:
        count = HINTS[stage.lesson]
        objectives, starts, rests = _hints(
            run.config, stage.size, count, student, teacher, teachers, starts
        )
    else:
        objectives = _flow(run.config, stage, student, teacher, teachers)

    run.progress.training(f"training {len(starts)} networks, {stage.name}")
    sgd = _optimizer(run.config, stage)
    members = [
        teaching.member(
            stage_name(stage.name, net), number(net), objectives[net], start, sgd
        )
        for net, start in starts.items()
    ]
    state = run.population(
        stage.name,
        members,
        batches,
        num_steps=stage.phase.steps,
        mesh=student.mesh,
        log_every_steps=run.config.log_every_steps,
        evaluate=student.tested if stage.is_last else None,
    )
    found = teaching.members_of(state, list(starts))
    return found if rests is None else teaching.merged(found, rests)


def begin(
    config: Config, its: Task, stage: Stage, trained: Mapping[str, Starts]
) -> Starts:
    """Returns what each net of a stage starts from.

    A net goes on from the same net of the stage before, or from the only one of its
    seed there.
    """
    if stage.start == "fresh":
        return {net: its.start(number(net)) for net in stage.nets}
    if stage.start == "weights":
        assert config.source_weights is not None
        before = dict.fromkeys(stage.nets, _weights(config.source_weights))
    else:
        found = trained[stage.start]
        before = {net: found.get(net, found[net[0], 0]) for net in stage.nets}
    if not stage.fresh_head:
        return before
    return {net: _fresh_head(its, net, *start) for net, start in before.items()}


def _weights(path: str) -> tuple[PyTree, PyTree]:
    """The parameters and statistics of the teacher's form in a file."""
    variables = distill.imagenet.from_torchvision(distill.transfer.load_npz(path))
    variables = jax.tree.map(jnp.asarray, variables)
    return variables["params"], variables["batch_stats"]


def _fresh_head(its: Task, net: Net, params: PyTree, batch_stats: PyTree) -> tuple:
    """A net of other classes, with a fresh last layer."""
    fresh, _ = its.start(number(net))
    adapted, _ = distill.transfer.adapt(fresh, params, its.head_paths.__contains__)
    return adapted, batch_stats


def _teachers(stage: Stage, trained: Mapping[str, Starts]) -> dict[Net, PyTree]:
    """The variables of what teaches each net: the first net of its seed."""
    if stage.teacher is None:
        return {}
    found = trained[stage.teacher]
    return {net: training.with_stats(*found[net[0], 0]) for net in stage.nets}


def _soft(config, stage, student, teacher, teachers) -> Objectives:
    """Labels and soft targets, of a weight that falls to 0."""
    taught = teaching.Taught(teacher.classifier)
    weight = distill.annealed_weight(stage.phase.steps)
    return {
        net: distill.fitnet_stage(
            teaching.Student(student.classifier),
            distill.Teacher(taught, variables),
            weight,
            config.temperature,
        )
        for net, variables in teachers.items()
    }


def _flow(config, stage, student, teacher, teachers) -> Objectives:
    """The teacher's flow matrices, of all sections."""
    shuffled = stage.lesson == "shuffled"
    theirs = tasks.maps(config, "large", teacher)
    learner, taught, pairs = flow(config, stage.size, student, teacher)
    loss = jax.tree_util.Partial(distance, jnp.float32(config.pair_weight))
    return {
        net: distill.matching_stage(
            learner,
            distill.Teacher(
                taught, (variables, orders(theirs, pairs, net if shuffled else None))
            ),
            loss,
        )
        for net, variables in teachers.items()
    }


def flow(
    config: Config, size: str, student: Task, teacher: Task
) -> tuple[teaching.Student, Shuffled, Any]:
    """Readers of a student's and its teacher's flow matrices, the latter's pairs."""
    own, pairs = distill.matching_sections(
        tasks.maps(config, size, student), tasks.maps(config, "large", teacher)
    )
    learner = teaching.Student(student.classifier, teaching.Matrices(tuple(own)))
    taught = Shuffled(teacher.classifier, teaching.Matrices(tuple(pairs)))
    return learner, taught, pairs


def orders(shapes: Mapping[str, Any], pairs: Any, net: Net | None) -> tuple:
    """Returns the teacher's channels in a net's own order; unchanged for `None`."""
    sizes = [tuple(shapes[name].shape[-1] for name in pair) for pair in pairs]
    if net is None:
        return tuple((jnp.arange(m), jnp.arange(n)) for m, n in sizes)
    matrices = [jax.ShapeDtypeStruct((1, *size), jnp.float32) for size in sizes]
    return distill.channel_orders(jax.random.key(number(net)), matrices)


def _hints(
    config, size, count, student, teacher, teachers, starts
) -> tuple[Objectives, Starts, Any]:
    """Prepares hints from the middle sections, see `teaching.hints`."""
    sides = ((size, student), ("large", teacher))
    ends = (guides(tasks.maps(config, *side), count) for side in sides)
    pairs = list(zip(*ends, strict=True))
    count = len(pairs)
    keys = {
        net: [*jax.random.split(jax.random.key(number(net)), count)] for net in starts
    }
    return teaching.hints(student, teacher, pairs, teachers, starts, keys)


@dataclasses.dataclass(frozen=True)
class _Sgd:
    """SGD whose rate drops at some steps. Equal ones share compiled programs."""

    drop_factor: float
    momentum: float
    weight_decay: float

    def __call__(self, rate, drops, clip_norm):
        return training.sgd(
            lambda step: rate * self.drop_factor ** (step >= drops).sum(),
            self.momentum,
            self.weight_decay,
            clip_norm,
        )


def _optimizer(config: Config, stage: Stage):
    """SGD for a stage; one program for all phases."""
    phase, clipped = stage.phase, config.clip_norm and not stage.is_last
    drops = np.full(4, _NEVER, np.int32)
    drops[: len(phase.drops)] = phase.drops
    make = _Sgd(config.drop_factor, config.momentum, config.weight_decay)
    return training.bind(
        make,
        jnp.float32(phase.rate),
        jnp.asarray(drops),
        jnp.float32(config.clip_norm if clipped else np.inf),
    )
