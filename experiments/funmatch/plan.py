"""What a run of the FunMatch study trains."""

from experiments.common.plan import Plan, Training, network, of
from experiments.funmatch import lengths
from experiments.funmatch.arms import ARMS
from experiments.funmatch.config import Config, name
from kd_heuristics import data


def plan(config: Config) -> Plan:
    """The teachers that are trained here, then the students of all arms.

    Raises:
      ValueError: the warmup does not fit into a training.
    """
    whole = data.describe(config.dataset, config.stored_size)
    count, every = of(config, config.stored_size).examples["train"], whole.examples
    teachers = min(config.teacher_examples or every["train"], every["train"])
    lengths.check(config, count, teachers)

    def net(part: str, size: int):
        which, options = config.networks[part]
        shape = (size, size, whole.shape[-1])
        return network(which, whole.num_classes, shape, options)

    sizes = {
        "teacher": ("teacher", config.teacher_size),
        "second-teacher": ("teacher", config.student_size),
        "pretraining": ("student", config.student_size),
    }
    found = lengths.trainings(config, count, teachers)
    trainings = [
        _training(config, stage, net(*sizes[stage]), (), *found[stage])
        for stage in sizes
        if stage in found
    ]
    for arm in config.arms:
        its = ARMS[arm]
        teacher_size, size = config.sizes(its)
        seen = (net("teacher", teacher_size),)
        taught = () if its.labels or its.view.startswith("fix/") else seen
        if its.ensemble:
            taught = (*seen, net("teacher", config.student_size))
        for setting, _ in config.plan(arm):
            stage = name(arm, setting.epochs)
            own = net(its.family, size)
            trainings.append(_training(config, stage, own, taught, *found[stage]))
    others = [
        (name, config.stored_size)
        for name, images in ((config.others, "others"), (config.related, "related"))
        if name is not None and config.has(images=images)
    ]
    return Plan(
        sets=((config.dataset, config.stored_size), *others),
        trainings=tuple(trainings),
        streamed=config.streamed,
        stored=lengths.stored_bytes(config, count, whole.num_classes),
    )


def _training(config, stage, own, taught, steps, seeds) -> Training:
    return Training(
        name=stage,
        network=own,
        members=seeds,
        steps=steps,
        batch_size=config.batch_size,
        moments=2,
        teachers=taught,
        stages=(stage,),
    )
