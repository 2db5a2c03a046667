"""A population of networks in one program, against separate trainings in turn.

    python -m experiments.benchmarks.population [--model vgg11] [--members 8] ...

Needs the extra `[bench]` (PyTorch). Takes under a minute on 2 cores; RESULTS.md in this
folder has the last table.

    vmap      training.population, all members at once
    map       the same, one member after the other inside the program
    loop      training.fit for each member in turn; the program is compiled once
    PyTorch   one network takes the steps of all, which costs the same as one network
              after another; with the settings of `train_step`

Each member takes `steps` steps of SGD with momentum on batches that stay in memory, in
its own order. A turn is the whole call: stacking the members, all their steps, and
waiting for the end. Images per second count all members together.
"""

import dataclasses
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.train_step import describe, ratio, take_turns
from kd_heuristics import models, training


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Networks, sizes and repeats."""

    model: str = "vgg11"
    width: float = 0.25
    classifier_width: int | None = 128  # of a VGG
    members: int = 8
    batch: int = 128
    steps: int = 8  # of each member a turn
    repeats: int = 3  # after a turn that compiles
    forms: tuple[str, ...] = ("map", "loop")  # of ours: vmap, map, loop
    dtype: str = "float32"
    device: str = "cpu"  # where PyTorch runs
    compile: str | None = None  # mode of torch.compile; None runs eagerly
    processor_time: bool = False  # as in `train_step.Config`

    @property
    def options(self) -> dict[str, Any]:
        """Returns options of the network."""
        own = {"width": self.width}
        if self.classifier_width is not None:
            own["classifier_width"] = self.classifier_width
        return own


def images_of(config: Config) -> tuple[np.ndarray, np.ndarray]:
    """Returns noise [batch, 32, 32, 3], and labels."""
    random = np.random.default_rng(0)
    images = random.normal(size=(config.batch, 32, 32, 3)).astype(np.float32)
    return images, random.integers(0, 10, config.batch).astype(np.int32)


def ours(config: Config) -> dict[str, Callable[[], Any]]:
    """Returns our forms by name; a call is a turn, and returns the networks."""
    images, labels = map(jnp.asarray, images_of(config))
    network = models.create(config.model, 10, **config.options, dtype=config.dtype)
    classifier = training.Classifier(network, (0.0,) * 3, (1.0,) * 3)
    batches = jax.tree_util.Partial(_batch, {"images": images, "labels": labels})
    optimizer = training.sgd(0.01, momentum=0.9)
    members = members_of(classifier, images[:1], optimizer, config.members)
    steps = config.steps
    # One compiled call per training; steps_per_call counts all members together.
    shared = {"num_steps": steps, "steps_per_call": steps * config.members}

    def together(at_once):
        state = training.population(members, batches, at_once=at_once, **shared)
        return jax.block_until_ready(state.params)

    def apart():
        found = []
        for member in members:
            fields = dataclasses.fields(member)
            own = {field.name: getattr(member, field.name) for field in fields}
            found.append(training.fit(batches=batches, **own, **shared).params)
        return jax.block_until_ready(found)

    forms = {
        "vmap": lambda: together(config.members),
        "map": lambda: together(1),
        "loop": apart,
    }
    return {name: forms[name] for name in config.forms}


def members_of(
    classifier: training.Classifier, example: Any, optimizer: Any, count: int
) -> list[training.Member]:
    """Makes supervised members for seeds 0, 1, ...; `example` is [1, h, w, c]."""
    members = []
    for seed in range(count):
        variables = classifier.network.init(jax.random.key(seed), example)
        member = training.Member(
            objective=classifier.supervised,
            params=variables["params"],
            batch_stats=variables.get("batch_stats", {}),
            optimizer=optimizer,
            seed=seed,
            stage=f"member {seed}",
        )
        members.append(member)
    return members


def _batch(batch, seed, step):
    """Permutes the batch by seed and step."""
    return jax.tree.map(lambda x: jnp.roll(x, 7 * seed + step, 0), batch)


def rival(config: Config, torch_models: Any) -> tuple[Callable[[], None], str]:
    """Returns a turn of PyTorch, with all members' steps, and a note on how it runs."""
    half = config.dtype == "bfloat16"
    settings = torch_models.Settings(config.device, half, config.compile)
    data = images_of(config)
    own = torch_models.rival(config.model, config.options, *data, settings)
    how = own.settings.mode or "eager"
    if config.device == "cpu":
        cores = len(os.sched_getaffinity(0))
        threads = torch_models.best_threads(lambda: own.train(1), cores)
        torch_models.torch.set_num_threads(threads)
        how = f"{how}, {threads} threads"
    return lambda: own.train(config.members * config.steps), how


def measure(
    config: Config, own: dict[str, Callable[[], Any]], torch_models: Any
) -> list[list[str]]:
    """Returns a row for each contender: name, images per second, ratio to our first.

    Args:
      config: config of all contenders.
      own: forms from `ours`, or some of them.
      torch_models: the module.
    """
    theirs, how = rival(config, torch_models)
    clock = time.process_time if config.processor_time else time.perf_counter
    seconds = take_turns({**own, f"PyTorch ({how})": theirs}, config.repeats, clock)
    first = next(iter(seconds.values()))
    images = config.members * config.steps * config.batch
    return [
        [name, f"{images / statistics.median(times):,.0f}", ratio(times, first)]
        for name, times in seconds.items()
    ]


def main(config: Config) -> None:
    """Measures and prints a Markdown table."""
    from experiments.benchmarks import torch_models

    print(describe("population", torch_models.torch))
    print(f"{config}\n\n| contender | images/s | {config.forms[0]} is faster by |")
    print("|---|---|---|")
    for row in measure(config, ours(config), torch_models):
        print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    import tyro  # here, because `gpu` runs without it

    main(tyro.cli(Config))
