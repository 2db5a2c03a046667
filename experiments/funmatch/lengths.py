"""Steps of each training of a FunMatch run, and bytes of its stored predictions.

As in big_vision, the authors' trainer: epochs * examples / batch size, rounded to the
nearest integer. The last batch of an epoch is filled up from the next epoch.
"""

from experiments.funmatch import optimizers
from experiments.funmatch.arms import ARMS
from experiments.funmatch.config import Config, name
from kd_heuristics import data, runs
from kd_heuristics.runtime import memory

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
        "second-teacher": config.has(ensemble=True) and config.second_weights is None,
        "pretraining": config.has(init="pretrained") and config.student_weights is None,
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
        kind = kinds.get(stage, "adam")
        warmup = optimizers.warmup_steps(config, kind)
        if warmup >= length:
            field = "shampoo_warmup_steps" if kind == "shampoo" else "warmup_steps"
            raise ValueError(
                f"{field} must lie in 0..{length - 1} for a training of {length} "
                f"steps, got {warmup}; train longer or warm up for fewer steps"
            )


def total(config: Config, num_examples: int, teacher_examples: int) -> int:
    """Returns the steps of all trainings and seeds, the length of the bar."""
    lengths = trainings(config, num_examples, teacher_examples)
    return sum(length * seeds for length, seeds in lengths.values())


def stored_bytes(config: Config, num_examples: int, num_classes: int) -> int:
    """Returns the bytes of an arm's stored predictions; 0 if no arm stores any.

    A stream cuts what a fixed teacher sees, except means of many crops.
    """
    views = {ARMS[arm].view for arm in config.arms if not ARMS[arm].labels}
    stores = any(
        view == "fix/ic_ens" or (view.startswith("fix/") and not config.streamed)
        for view in views
    )
    return 4 * num_examples * num_classes if stores else 0


def check_stored(config: Config, num_examples: int, num_classes: int) -> None:
    """Raises RunError if an arm's stored predictions exceed the device's memory."""
    needed = stored_bytes(config, num_examples, num_classes)
    limit = memory.limit()
    if needed > limit:
        raise runs.RunError(
            f"a fixed teacher's predictions of {num_examples:,} images for "
            f"{num_classes:,} classes are {needed / 2**30:.1f} GiB, and the device has "
            f"{limit / 2**30:.1f} GiB of memory; leave the arms fix/... out (--main, "
            "--other-arms), or use a device with more memory"
        )
