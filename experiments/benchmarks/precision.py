"""Accuracy lost by computing in bfloat16: the same trainings in both types.

    python -m experiments.benchmarks.precision [--dataset digits] [--model resnet8] ...

Each seed trains the same network on the same batches in float32 and in bfloat16
(activations; parameters, statistics and losses are float32 in both). The table shows
the differences within seeds beside the spread over seeds. RESULTS.md has the last one.
"""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np

from experiments.benchmarks import population
from kd_heuristics import data, models, schedules, training

DTYPES = ("float32", "bfloat16")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Networks, sizes and seeds."""

    dataset: str = "digits"
    model: str = "resnet8"
    width: float = 0.5
    train_examples: int | None = None
    epochs: int = 10
    batch_size: int = 50
    rate: float = 0.1  # falls to 0 by a cosine
    seeds: int = 3


def accuracies(config: Config, dtype: str) -> np.ndarray:
    """Returns the test accuracy of each seed, [seeds]."""
    train, test = (data.load(config.dataset, name) for name in ("train", "test"))
    train = train.take(config.train_examples)
    network = models.create(
        config.model, train.num_classes, width=config.width, dtype=dtype
    )
    classifier = training.Classifier.of(network, train)
    steps = config.epochs * data.steps_per_epoch(len(train), config.batch_size)
    rate = schedules.cosine_decay(config.rate, steps)
    optimizer = training.sgd(rate, momentum=0.9, weight_decay=5e-4, clip_norm=1.0)
    example = jnp.zeros((1, *train.images.shape[1:]))
    members = population.members_of(classifier, example, optimizer, config.seeds)
    side = train.images.shape[1]
    augmentation: dict[str, Any] = data.default_augmentation(config.dataset, side)
    batches = data.train_batches(train, config.batch_size, **augmentation)
    state = training.population(members, batches, num_steps=steps)
    found = training.evaluate_members(
        classifier.metric, state, data.eval_batches(test, 100)
    )
    return found["accuracy"]


def main(config: Config) -> None:
    """Trains and prints a Markdown table."""
    print(
        f"{config}\n\n| computed in | test accuracy of each seed, % | mean | spread |"
    )
    print("|---|---|---|---|")
    found = {dtype: 100 * accuracies(config, dtype) for dtype in DTYPES}
    found["bfloat16 less float32"] = found["bfloat16"] - found["float32"]
    for name, values in found.items():
        each = ", ".join(f"{value:.1f}" for value in values)
        spread = f"{values.std(ddof=1):.2f}" if len(values) > 1 else "–"
        print(f"| {name} | {each} | {values.mean():.2f} | {spread} |", flush=True)


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Config))
