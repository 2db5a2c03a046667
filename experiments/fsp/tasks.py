"""Tasks of the FSP study: all classes, and the two parts of the transfer."""

import dataclasses
import functools
from typing import Any

import numpy as np

from experiments.common import task
from experiments.fsp.config import Config
from kd_heuristics import data, models

# Pixel statistics of the weights that torchvision publishes, in units of uint8 pixels.
_IMAGENET: dict[str, Any] = {
    "mean": tuple(255 * value for value in (0.485, 0.456, 0.406)),
    "std": tuple(255 * value for value in (0.229, 0.224, 0.225)),
}


def make(config: Config) -> dict[tuple[str, str], task.Task]:
    """Loads the tasks, by part of the classes and size of the net.

    All parts use the pixel statistics of the whole set, or ImageNet's with its weights,
    so that a teacher sees what its student sees. Nets of one form are one network and
    share compiled programs.
    """
    made = task.make(config)
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
        size = config.image_size
        test = data.load(config.dataset, config.test_split, size)
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
    create = functools.cache(
        functools.partial(models.create, **config.model_options)  # by name and classes
    )
    return {
        (part, size): dataclasses.replace(
            of,
            classifier=dataclasses.replace(
                made.classifier, network=create(name, of.train.num_classes)
            ),
        )
        for part, of in parts.items()
        for size, name in (("small", config.model), ("large", config.teacher))
    }


def of_classes(dataset: data.Dataset, low: int, high: int) -> data.Dataset:
    """Selects the classes low..high-1 and renumbers them 0..high-low-1."""
    chosen = (dataset.labels >= low) & (dataset.labels < high)
    return data.Dataset(
        dataset.images[chosen],
        dataset.labels[chosen] - np.int32(low),
        high - low,
        dataset.name,
    )
