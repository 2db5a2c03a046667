"""Teachers of a FunMatch run and the pretrained student, trained or loaded."""

import dataclasses
from typing import Any

import numpy as np

from experiments.common.study import StudyRun
from experiments.funmatch import lengths, lessons, optimizers
from experiments.funmatch.materials import Materials
from kd_heuristics import distill, runs, training
from kd_heuristics.models import bit_weights
from kd_heuristics.runtime import files

PyTree = Any
SEED = 10_000  # added to seeds, so that no teacher shares a student's start or batches
DECAY = 1e-4  # of kernels, in training on labels


@dataclasses.dataclass(frozen=True, kw_only=True)
class Teachers:
    """Trained networks that the students need.

    Attributes:
      first: variables of the teacher.
      second: variables of the ensemble's other teacher; None if no arm needs it.
      pretrained: initial parameters and statistics of pretrained students; None if no
        arm needs them.
    """

    first: PyTree
    second: PyTree | None
    pretrained: tuple[PyTree, PyTree] | None


def prepare(run: StudyRun, its: Materials) -> Teachers:
    """Loads or trains the networks that the arms of the config need."""
    config = run.config
    first = load_or_train(
        run, its, "teacher", config.teacher_weights, config.teacher_size
    )
    second = pretrained = None
    if config.has(ensemble=True):
        second = load_or_train(
            run, its, "second-teacher", config.second_weights, config.student_size
        )
    if config.has(init="pretrained"):
        variables = load_or_train(
            run, its, "pretraining", config.student_weights, config.student_size
        )
        pretrained = variables["params"], variables.get("batch_stats", {})
    return Teachers(first=first, second=second, pretrained=pretrained)


def load_or_train(
    run: StudyRun, its: Materials, stage: str, path: str | None, size: int
) -> PyTree:
    """Loads variables from a file, or trains on labels if there is no path."""
    family = "student" if stage == "pretraining" else "teacher"
    if path is None:
        return train_on_labels(run, its, stage, family, size)
    # A pretrained student keeps its new head, since the file has other classes.
    return load(its, path, family, size, "keep" if family == "student" else "load")


def train_on_labels(
    run: StudyRun, its: Materials, stage: str, family: str, size: int
) -> PyTree:
    """Trains a network on the labels of all training images; returns its variables."""
    config = run.config
    run.progress.training(f"training {stage}")
    seed = SEED + config.first_seed
    view = its.view(config.teacher_view, teacher_size=size)
    params, batch_stats = its.start(family, seed, size)
    steps = lengths.steps(config, config.teacher_epochs, its.sets.teacher_examples)
    objective = lessons.Labels(its.classifiers[family], view)
    state = training.fit(
        objective,
        params,
        batch_stats,
        optimizers.create(config, "adam", config.teacher_rate, DECAY, steps),
        its.sets.batches("whole", view, seed),
        num_steps=steps,
        seed=seed,
        stage=stage,
        logging=training.Logging(
            run.metrics,
            log_every_steps=max(1, steps // config.points),
            progress=run.progress.advance,
        ),
        checkpoints=training.Checkpoints(
            run.folder.training(stage, [run.by, objective])  # leads to a user's code
        ),
        batch_norm=config.batch_norm,
        on_nonfinite=config.on_nonfinite,
        **its.training_options,
    )
    variables = training.with_stats(state.params, state.batch_stats)
    # Other runs, such as those of a sweep, can read it with --teacher-weights.
    distill.transfer.save_npz(run.folder.checkpoints(f"{stage}.npz"), variables)
    return variables


def load(its: Materials, path: str, family: str, size: int, head: str) -> PyTree:
    """Loads variables from a released file, or one that `train_on_labels` wrote.

    Raises:
      RunError: the head is to be loaded, but the file has other classes.
    """
    variables = training.with_stats(*its.start(family, 0, size))
    with np.load(files.path(path), allow_pickle=False) as file:
        released = not any(key.startswith("params/") for key in file.files)
    if released:
        return bit_weights.load(path, variables, head)  # pyrefly: ignore
    tree, kept = distill.transfer.adapt(variables, distill.transfer.load_npz(path))
    if kept and head == "load":
        raise runs.RunError(
            f"the weights {path} are of other classes: {', '.join(kept)}"
        )
    return tree
