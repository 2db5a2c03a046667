"""What the FSP study trains on: all classes, and two parts of them for transfer."""

import dataclasses
import functools

import numpy as np

from experiments import task
from experiments.presets.fsp import Config
from kd_heuristics import data, models


def make(config: Config) -> dict[tuple[str, str], task.Task]:
    """The tasks by part of the classes and size of the net.

    All parts have the pixel statistics of the whole set: a teacher sees what its
    student sees. Nets of one form are one network, so that they share programs.
    """
    made = task.make(config)
    parts = {"all": made}
    if config.transfer:
        size, first = config.image_size, config.source_classes
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
    """The examples of the classes low..high-1, which become 0..high-low-1."""
    chosen = (dataset.labels >= low) & (dataset.labels < high)
    return data.Dataset(
        dataset.images[chosen],
        dataset.labels[chosen] - np.int32(low),
        high - low,
        dataset.name,
    )
