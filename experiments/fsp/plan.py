"""What a run of the FSP study trains."""

import functools

from experiments.common.plan import Plan, Training, network, of
from experiments.fsp.config import Config
from experiments.fsp.rows import FAST, HINTS


def plan(config: Config) -> Plan:
    """The stages of all rows; a first stage that rows share stands once."""
    found = of(config)

    @functools.cache
    def net(size, part):
        first = config.source_classes or 0
        rest = found.num_classes - first
        classes = {"all": found.num_classes, "source": first, "target": rest}[part]
        large = size == "large"
        name = config.teacher if large else config.model
        options = config.teacher_options if large else config.model_options
        return network(name, classes, found.shape, options)

    trainings: dict[str, Training] = {}
    for arm, row in config.rows.items():
        many = config.nets if arm in FAST else 1
        teacher = config.rows.get(row.teacher, row)
        seen = (net("large", teacher.part),)
        phase = config.first_phase(arm)
        if phase is not None:
            shared = row.start in (*HINTS, "flow")
            name = f"{row.start} stage, {row.size}, {row.part}"
            trainings.setdefault(
                name,
                Training(
                    name=name,
                    network=net(row.size, row.part),
                    members=config.seeds * (1 if shared else many),
                    steps=phase.steps,
                    batch_size=config.batch_size,
                    teachers=seen,
                    stages=(f"{arm}-stage",),
                ),
            )
        trainings[arm] = Training(
            name=arm,
            network=net(row.size, row.part),
            members=config.seeds * many,
            steps=config.last_phase(arm).steps,
            batch_size=config.batch_size,
            teachers=seen if row.soft else (),
            stages=(arm,),
        )
    sets = ((config.dataset, config.image_size),)
    return Plan(sets=sets, trainings=tuple(trainings.values()))
