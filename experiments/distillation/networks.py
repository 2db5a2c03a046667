"""The student and the teacher of the distillation study, and the layers they share."""

import dataclasses
from typing import Any

from experiments.common import task, teaching
from experiments.distillation.config import Config
from kd_heuristics import models


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Networks:
    """Both networks and the layers that hints and flow matrices join.

    Attributes:
      student: task of the student.
      teacher: task of the teacher: the same data, another network.
      layers: names of the student's layers.
      teacher_layers: names of the teacher's layers.
      guided: layer of the student that learns the hint, its last ReLU with a map.
      hint: layer of the teacher that gives the hint.
      flow: first and last layer of the student's flow matrix.
      teacher_flow: the same of the teacher; `None` if no arm learns flow matrices.
    """

    student: task.Task
    teacher: task.Task
    layers: list[str]
    teacher_layers: list[str]
    guided: str
    hint: str
    flow: tuple[str, str]
    teacher_flow: tuple[str, str] | None


def choose(config: Config) -> Networks:
    """Creates both networks and chooses their layers; trains nothing.

    Raises: ValueError if the widths of the two networks do not fit.
    """
    student = task.make(config)
    classes = student.train.num_classes
    teacher = student.with_network(
        models.create(config.teacher, classes, **config.teacher_options)
    )
    mine, theirs = (
        teaching.shapes(its.classifier, its.train.images) for its in (student, teacher)
    )
    maps = list(teaching.relu_maps(mine))
    guided = maps[-1]
    flows = "fsp" in config.kinds
    return Networks(
        student=student,
        teacher=teacher,
        layers=list(mine),
        teacher_layers=list(theirs),
        guided=guided,
        hint=last_map(theirs, mine[guided].shape[1:3]),
        flow=(maps[0], guided),
        teacher_flow=flow(theirs, mine[guided].shape[-1]) if flows else None,
    )


def last_map(shapes: dict[str, Any], size: tuple[int, ...]) -> str:
    """Returns the last ReLU whose map has a given height and width.

    Raises: ValueError if there is none.
    """
    maps = teaching.relu_maps(shapes)
    found = [name for name, shape in maps.items() if shape[1:3] == size]
    if not found:
        listed = ", ".join(f"{name} {shape[1:3]}" for name, shape in maps.items())
        raise ValueError(f"no ReLU of the teacher has a map of {size}: {listed}")
    return found[-1]


def flow(shapes: dict[str, Any], channels: int) -> tuple[str, str]:
    """Returns the first and the last ReLU whose maps have a given number of channels.

    Raises: ValueError if fewer than two have it.
    """
    maps = teaching.relu_maps(shapes)
    found = [name for name, shape in maps.items() if shape[-1] == channels]
    if len(found) < 2:
        listed = sorted({shape[-1] for shape in maps.values()})
        raise ValueError(
            f"flow matrices need two ReLUs with {channels} channels, as the student "
            f"has, and the teacher's have {listed}; choose other widths, or leave "
            '"fsp" out of the kinds'
        )
    return found[0], found[-1]
