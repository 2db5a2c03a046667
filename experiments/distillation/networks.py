"""The student and the teacher of the distillation study, and the layers they share."""

import dataclasses
from typing import Any

import jax

from experiments.common import task, teaching
from experiments.common.own import Own
from experiments.distillation.config import Config
from kd_heuristics import distill


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Networks:
    """Both networks and the layers that hints and flow matrices join.

    Attributes:
      student: task of the student.
      teacher: task of the teacher: the same data, another network.
      layers: names of the student's layers.
      teacher_layers: names of the teacher's layers.
      guided: layer of the student that learns the hint, the last of its maps; `None`
        if no arm learns hints and no losses are compared.
      hint: layer of the teacher that gives the hint.
      flow: first and last layer of the student's flow matrix; `None` if no arm learns
        flow matrices.
      teacher_flow: the same of the teacher.
    """

    student: task.Task
    teacher: task.Task
    layers: list[str]
    teacher_layers: list[str]
    guided: str | None
    hint: str | None
    flow: tuple[str, str] | None
    teacher_flow: tuple[str, str] | None


def choose(config: Config, own: Own = task.NOTHING) -> Networks:
    """Creates both networks and chooses their layers; trains nothing.

    Raises: ValueError if the two networks do not fit, or show no layers to compare.
    """
    student = task.make(config, own)
    student.check_layers(("_conv", "_fc"))
    classes = student.train.num_classes
    teacher = student.with_network(own.network_for(config, classes, "teacher"))
    mine, theirs = (
        teaching.shapes(its.classifier, its.train.images) for its in (student, teacher)
    )
    if len(theirs) < 2:
        raise ValueError(
            f"the teacher {teacher.classifier.network.name} shows {len(theirs)} layer, "
            "and the study compares early with late ones; return more features"
        )
    chosen: dict[str, Any] = {"guided": None, "hint": None}
    chosen |= {"flow": None, "teacher_flow": None}
    if config.kinds or config.losses:
        maps = teaching.joinable(mine, config.model_layers)
        given = teaching.joinable(theirs, config.teacher_layers)
        first, guided = next(iter(maps)), [*maps][-1]
        teaching.check_train_features(student)
        if "hint" in config.kinds or config.losses:
            size = tuple(maps[guided].shape[1:3])
            chosen |= {"guided": guided, "hint": last_map(given, size)}
        if "fsp" in config.kinds:
            if first == guided:
                raise ValueError(
                    f"flow matrices join two layers, but the student has one, {first}; "
                    'choose others by model_layers, or leave "fsp" out of the kinds'
                )
            channels = maps[first].shape[-1], maps[guided].shape[-1]
            chosen |= {"flow": (first, guided), "teacher_flow": flow(given, *channels)}
            for shapes, pair in (
                (maps, chosen["flow"]),
                (given, chosen["teacher_flow"]),
            ):
                jax.eval_shape(distill.fsp_matrix, *(shapes[name] for name in pair))
    if config.losses:
        _check_logits(classes, mine, theirs)
    return Networks(
        student=student,
        teacher=teacher,
        layers=list(mine),
        teacher_layers=list(theirs),
        **chosen,
    )


def _check_logits(classes: int, *networks: dict[str, Any]) -> None:
    """Raises ValueError if the last layer that a network shows are not its logits."""
    for shapes in networks:
        name, found = [*shapes.items()][-1]
        if len(shapes) < 2 or found.shape != (1, classes):
            raise ValueError(
                f"losses compare the logits, the last of at least 2 layers, but the "
                f"last of {len(shapes)} is {name} of shape {found.shape[1:]} for "
                f"{classes} classes; return the logits last, or set losses=()"
            )


def last_map(maps: dict[str, Any], size: tuple[int, ...]) -> str:
    """Returns the last of the teacher's maps that has a given height and width.

    Raises: ValueError if there is none.
    """
    found = [name for name, value in maps.items() if value.shape[1:3] == size]
    if not found:
        listed = ", ".join(f"{name} {value.shape[1:3]}" for name, value in maps.items())
        raise ValueError(
            f"no layer of the teacher has a map of {size} as the student's guided one: "
            f"{listed}; choose others by model_layers and teacher_layers, or leave "
            '"hint" out of the kinds'
        )
    return found[-1]


def flow(maps: dict[str, Any], first: int, last: int) -> tuple[str, str]:
    """Returns the first and the last of the teacher's maps with numbers of channels.

    Args:
      maps: of the teacher, by name.
      first: channels of the first layer of the student's flow matrix.
      last: channels of the last one.

    Raises: ValueError if no two different maps have them, in this order.
    """
    names = list(maps)
    starts = [n for n, name in enumerate(names) if maps[name].shape[-1] == first]
    ends = [n for n, name in enumerate(names) if maps[name].shape[-1] == last]
    if not starts or not ends or starts[0] >= ends[-1]:
        listed = ", ".join(f"{name} {value.shape[-1]}" for name, value in maps.items())
        raise ValueError(
            f"flow matrices need two layers of the teacher with {first} and {last} "
            f"channels, as the student has, and these have: {listed}; choose other "
            'widths, model_layers and teacher_layers, or leave "fsp" out of the kinds'
        )
    return names[starts[0]], names[ends[-1]]
