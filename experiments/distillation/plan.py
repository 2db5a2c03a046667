"""What a run of the distillation study trains."""

from typing import Any

from experiments.common.plan import Plan, Training, epochs, network, of
from experiments.distillation import table
from experiments.distillation.config import Config, soft
from experiments.distillation.students import drawn, teacher_seeds


def plan(config: Config) -> Plan:
    """The teachers, students of soft targets, first stages and students of labels."""
    found = of(config)
    student, teacher = (
        network(name, found.num_classes, found.shape, options)
        for name, options in (
            (config.model, config.model_options),
            (config.teacher, config.teacher_options),
        )
    )
    each, first = config.seeds, config.first_stage_epochs
    labelled = len(drawn(config)) + each * len(config.kinds)
    # Name, stages and epochs of each training of taught students.
    taught = [
        ("soft targets", tuple(map(soft, config.temperatures)), config.epochs),
        *([("nulls", config.nulls, config.epochs)] if config.nulls else []),
        *((f"loss {n}", (table.stage(n),), config.epochs) for n in config.losses),
        *((f"{kind} stage", (f"{kind}-stage",), first) for kind in config.kinds),
    ]
    count, alone = len(teacher_seeds(config)), ("independent", *config.kinds)
    rows: list[tuple[Any, ...]] = [
        ("teachers", ("teacher",), config.teacher_epochs, teacher, count, ()),
        *((*row, student, each * len(row[1]), (teacher,)) for row in taught),
        ("labels", alone, config.epochs, student, labelled, ()),
    ]
    trainings = tuple(
        Training(
            name=name,
            network=net,
            members=members,
            steps=epochs(found, config.batch_size, length),
            batch_size=config.batch_size,
            teachers=teachers,
            stages=stages,
        )
        for name, stages, length, net, members, teachers in rows
    )
    return Plan(sets=((config.dataset, config.image_size),), trainings=trainings)
