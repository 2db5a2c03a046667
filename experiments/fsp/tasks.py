"""Tasks of the FSP study: all classes, and the two parts of the transfer."""

import dataclasses
from typing import Any

import jax
import numpy as np

from experiments.common import task, teaching
from experiments.common.own import Own, Role
from experiments.fsp.config import Config, check_classes
from kd_heuristics import data, distill

# Pixel statistics of the weights that torchvision publishes, in units of uint8 pixels.
_IMAGENET: dict[str, Any] = {
    "mean": tuple(255 * value for value in (0.485, 0.456, 0.406)),
    "std": tuple(255 * value for value in (0.229, 0.224, 0.225)),
}


def make(config: Config, own: Own = task.NOTHING) -> dict[tuple[str, str], task.Task]:
    """Loads the tasks, by part of the classes and size of the net.

    All parts use the pixel statistics of the whole set, or ImageNet's with its weights,
    so that a teacher sees what its student sees. Nets of one form are one network and
    share compiled programs.

    Raises: ValueError if the user's networks or images do not fit.
    """
    made = task.make(config, own)
    check_classes(config, made.train.num_classes)
    if own.teacher is not None and config.source_weights is not None:
        raise ValueError(
            "source_weights are of a ResNet of ours, not of a teacher of your own; "
            "leave one of them out"
        )
    if config.transfer and config.source_classes and (own.network or own.teacher):
        raise ValueError(
            "the transfer makes networks of other numbers of classes; name yours, as "
            "model='nets.py:make', or set transfer=False"
        )
    if config.source_weights is not None:
        classifier = dataclasses.replace(made.classifier, **_IMAGENET)
        made = dataclasses.replace(made, classifier=classifier)
    parts = {"all": made}
    first = config.source_classes
    if config.transfer and first is None:
        parts["target"] = dataclasses.replace(
            made, train=made.train.take(config.target_examples)
        )
    elif config.transfer and first is not None:
        test = own.load(config, config.test_split)
        count = made.train.num_classes
        for part, low, high, examples in (
            ("source", 0, first, None),
            ("target", first, count, config.target_examples),
        ):
            parts[part] = dataclasses.replace(
                made,
                train=of_classes(made.train, low, high).take(examples),
                test=data.eval_batches(
                    of_classes(test, low, high), config.eval_batch_size
                ),
            )
    parts = {
        part: dataclasses.replace(
            of,
            batches=data.train_batches(
                of.train, config.batch_size, padding=config.padding
            ),
        )
        for part, of in parts.items()
    }
    roles: tuple[tuple[str, Role], ...] = ("small", "model"), ("large", "teacher")
    found = {
        (part, size): dataclasses.replace(
            of,
            classifier=dataclasses.replace(
                made.classifier,
                network=own.network_for(config, of.train.num_classes, role),
            ),
        )
        for part, of in parts.items()
        for size, role in roles
    }
    for its in found.values():
        its.classifier.check_classes(its.train)
    return found


def check(config: Config, own: Own = task.NOTHING) -> None:
    """Raises ValueError if the user's networks and images do not fit the study."""
    its = make(config, own)
    for part in dict.fromkeys(part for part, _ in its):
        large = its[part, "large"]
        sizes = [*(["large"] if config.fast and part == "all" else [])]
        sizes += [*(["small"] if config.small or part == "target" else [])]
        for size in sizes:
            student = its[part, size]
            teaching.check_train_features(student)
            mine, theirs = (
                maps(config, one, of) for one, of in ((size, student), ("large", large))
            )
            for shapes, pairs in zip(
                (mine, theirs), distill.matching_sections(mine, theirs), strict=True
            ):
                jax.eval_shape(distill.fsp_matrices, distill.take_pairs(shapes, pairs))


def maps(config: Config, size: str, its: task.Task) -> dict[str, Any]:
    """Shapes of a network's layers that hints and flow matrices may join."""
    pattern = config.teacher_layers if size == "large" else config.model_layers
    shapes = teaching.shapes(its.classifier, its.train.images)
    return teaching.joinable(shapes, pattern)


def of_classes(dataset: data.Dataset, low: int, high: int) -> data.Dataset:
    """Selects the classes low..high-1 and renumbers them 0..high-low-1."""
    chosen = (dataset.labels >= low) & (dataset.labels < high)
    return data.Dataset(
        dataset.images[chosen],
        dataset.labels[chosen] - np.int32(low),
        high - low,
        dataset.name,
    )
