"""What a run of the distillation study trains."""

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

    def training(name, stages, net, members, length, teachers=()):
        return Training(
            name=name,
            network=net,
            members=members,
            steps=epochs(found, config.batch_size, length),
            batch_size=config.batch_size,
            teachers=teachers,
            stages=tuple(stages),
        )

    taught = config.seeds * len(config.temperatures)
    blind = config.seeds * len(config.nulls)
    labelled = len(drawn(config)) + config.seeds * len(config.kinds)
    count = len(teacher_seeds(config))
    trainings = [
        training("teachers", ["teacher"], teacher, count, config.teacher_epochs),
        training(
            "soft targets",
            map(soft, config.temperatures),
            student,
            taught,
            config.epochs,
            (teacher,),
        ),
        *(
            [training("nulls", config.nulls, student, blind, config.epochs, (teacher,))]
            if config.nulls
            else []
        ),
        *(
            training(
                f"loss {name}",
                [table.stage(name)],
                student,
                config.seeds,
                config.epochs,
                (teacher,),
            )
            for name in config.losses
        ),
        *(
            training(
                f"{kind} stage",
                [f"{kind}-stage"],
                student,
                config.seeds,
                config.first_stage_epochs,
                (teacher,),
            )
            for kind in config.kinds
        ),
        training(
            "labels",
            ["independent", *config.kinds],
            student,
            labelled,
            config.epochs,
        ),
    ]
    return Plan(sets=((config.dataset, config.image_size),), trainings=tuple(trainings))
