"""Number of steps of each training of a FunMatch run.

As in big_vision, the authors' trainer: epochs * examples / batch size, rounded to the
nearest integer. The last batch of an epoch is filled up from the next epoch.
"""

from experiments.funmatch import optimizers
from experiments.funmatch.arms import ARMS
from experiments.funmatch.config import Config, name
from kd_heuristics import data, training

REMAINDER = "carry"


def steps(config: Config, epochs: int, num_examples: int) -> int:
    """Returns the steps of a training of `epochs` on a set."""
    return data.num_steps(epochs, num_examples, config.batch_size, REMAINDER)


def trainings(
    config: Config, num_examples: int, teacher_examples: int
) -> dict[str, tuple[int, int]]:
    """Returns `{stage: (steps, seeds)}` for each training, students first.

    Args:
      config: config of the study.
      num_examples: training images of the students.
      teacher_examples: training images of the networks that learn from labels.
    """
    found = {
        name(arm, setting.epochs): (steps(config, setting.epochs, num_examples), seeds)
        for arm in config.arms
        for setting, seeds in config.plan(arm)
    }
    on_labels = {
        "teacher": config.teacher_weights is None,
        "second-teacher": "ensemble" in config.arms and config.second_weights is None,
        "pretraining": "pretrained" in config.arms and config.student_weights is None,
    }
    for stage, trained in on_labels.items():
        if trained:
            found[stage] = steps(config, config.teacher_epochs, teacher_examples), 1
    return found


def check(config: Config, num_examples: int, teacher_examples: int) -> None:
    """Raises ValueError if the warmup does not fit into each training."""
    found = trainings(config, num_examples, teacher_examples)
    kinds = {
        name(arm, setting.epochs): ARMS[arm].optimizer
        for arm in config.arms
        for setting, _ in config.plan(arm)
    }
    for stage, (length, _) in found.items():
        warmup = optimizers.warmup_steps(config, kinds.get(stage, "adam"))
        training.warmup_cosine(length, warmup)


def total(config: Config, num_examples: int, teacher_examples: int) -> int:
    """Returns the steps of all trainings and seeds, the length of the bar."""
    lengths = trainings(config, num_examples, teacher_examples)
    return sum(length * seeds for length, seeds in lengths.values())
