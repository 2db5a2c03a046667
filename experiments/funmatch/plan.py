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
        which, options = {
            "teacher": (config.teacher, config.teacher_options),
            "student": (config.model, config.student_options),
            "mobilenet_gn": (config.family, config.family_options("group")),
            "mobilenet_bn": (config.family, config.family_options("batch")),
        }[part]
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
        size = config.teacher_size if its.full_size else config.student_size
        seen = (net("teacher", config.teacher_size),)
        taught = () if its.labels or its.view.startswith("fix/") else seen
        if its.ensemble:
            taught = (*seen, net("teacher", config.student_size))
        for setting, _ in config.plan(arm):
            stage = name(arm, setting.epochs)
            own = net(its.family, size)
            trainings.append(_training(config, stage, own, taught, *found[stage]))
    others = ((config.others, config.stored_size),) if "others" in config.arms else ()
    return Plan(
        sets=((config.dataset, config.stored_size), *others),
        trainings=tuple(trainings),
        streamed=config.streamed,
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
    )
