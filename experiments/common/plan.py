"""What a run would train, without its data and without training: `--plan`.

Counts come from the preset and from shapes alone, so that a plan of ImageNet takes
seconds on a laptop. `measure` times a step of each training on random images.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import rich.console
import rich.table

from experiments.common import clocks
from kd_heuristics import data, models, training
from kd_heuristics.runtime import hosts


@dataclasses.dataclass(frozen=True)
class Network:
    """A network of a plan.

    Attributes:
      name: of `models.create`.
      num_classes: number of classes.
      shape: `(height, width, channels)` of an image.
      options: of `models.create`, as sorted pairs.
    """

    name: str
    num_classes: int
    shape: tuple[int, int, int]
    options: tuple[tuple[str, Any], ...] = ()

    @functools.cached_property
    def made(self) -> models.Network:
        """The network."""
        return models.create(self.name, self.num_classes, **dict(self.options))

    @functools.cached_property
    def parameters(self) -> int:
        """Number of parameters, from shapes alone."""
        image = jax.ShapeDtypeStruct((1, *self.shape), jnp.float32)
        variables = jax.eval_shape(self.made.init, jax.random.key(0), image)
        leaves = jax.tree.leaves(variables["params"])
        return sum(math.prod(leaf.shape) for leaf in leaves)


def network(
    name: str, num_classes: int, shape: tuple[int, int, int], options: Mapping[str, Any]
) -> Network:
    """A network of a plan, with options as `models.create` takes them."""
    return Network(name, num_classes, shape, tuple(sorted(options.items())))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    """One training of a plan: a population whose members share a program.

    Attributes:
      name: of the training.
      network: that is trained.
      members: number of networks.
      steps: of each.
      batch_size: examples a step.
      moments: trees of the size of the parameters that the optimiser keeps.
      checkpoints: number that stay on disk.
      teachers: forward passes of teachers in each step.
      stages: names of its networks in the metrics, without seed and net; the trainings
        of claims are of them.
      extra_bytes: what each member keeps beside its network, in its checkpoints too.
    """

    name: str
    network: Network
    members: int
    steps: int
    batch_size: int
    moments: int = 1
    checkpoints: int = 2
    teachers: tuple[Network, ...] = ()
    stages: tuple[str, ...] = ()
    extra_bytes: int = 0

    @property
    def state_bytes(self) -> int:
        """Bytes that training all members carries and stores, with `extra_bytes`."""
        each = 4 * self.network.parameters * (1 + self.moments) + self.extra_bytes
        return self.members * each


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a run needs.

    Attributes:
      sets: name and side of each set of images; None is the set's own side.
      trainings: in order.
      streamed: whether training images are read while training, so that only held-out
        ones are in memory.
      stored: bytes of predictions that are stored for all training images.
      earlier: names of networks as they stand before the end of their training, which
        claims may need as well.
    """

    sets: tuple[tuple[str, int | None], ...]
    trainings: tuple[Training, ...]
    streamed: bool = False
    stored: int = 0
    earlier: tuple[str, ...] = ()

    @property
    def stages(self) -> frozenset[str]:
        """Names of all networks in the metrics, without seed and net."""
        return frozenset(stage for its in self.trainings for stage in its.stages)

    @property
    def steps(self) -> int:
        """Training steps of all networks."""
        return sum(its.steps * its.members for its in self.trainings)

    @property
    def programs(self) -> int:
        """Compiled training programs: trainings of other networks or batches."""
        kinds = {(its.network, its.batch_size, its.teachers) for its in self.trainings}
        return len(kinds)

    @property
    def memory(self) -> int:
        """Bytes on the devices: images, predictions, the largest training's state.

        Gradients count as one more tree of parameters; activations do not count.
        """
        images = sum(
            count * math.prod(found.shape)
            for found in (data.describe(name, size) for name, size in self.sets)
            for split, count in found.examples.items()
            if not (self.streamed and split == "train")
        )
        states = [
            its.state_bytes + 4 * its.members * its.network.parameters
            for its in self.trainings
        ]
        return images + self.stored + max(states, default=0)

    @property
    def disk(self) -> int:
        """Bytes of the checkpoints that stay."""
        return sum(its.state_bytes * its.checkpoints for its in self.trainings)


def seconds_of_a_step(its: Training, repeats: int = 3) -> float:
    """Seconds of one step of one network of a training, measured on random images.

    Args:
      its: the training; its teachers count as a third of a step each.
      repeats: timed steps, of which the fastest counts.
    """
    made = its.network.made
    classifier = training.Classifier(
        made, (0.0,) * its.network.shape[-1], (1.0,) * its.network.shape[-1]
    )
    images = jnp.zeros((its.batch_size, *its.network.shape), jnp.uint8)
    labels = jnp.zeros(its.batch_size, jnp.int32)
    batch = {"images": images, "labels": labels}
    example = jnp.zeros((1, *its.network.shape))
    variables = made.init(jax.random.key(0), example)

    def run(steps):
        state = training.fit(
            classifier.supervised,
            variables["params"],
            variables.get("batch_stats", {}),
            training.sgd(0.0, 0.9, 0.0),
            lambda seed, step: batch,
            num_steps=steps,
            seed=0,
        )
        jax.block_until_ready(state.params)

    seconds = clocks.of_a_step(run, 2, repeats)["wall"]
    return seconds * (1 + len(its.teachers) / 3)


def show(title: str, plan: Plan, measured: Mapping[int, float] | None = None) -> None:
    """Prints a plan.

    Args:
      title: study and preset.
      plan: what to print.
      measured: seconds of a step by the training's place; adds hours.
    """
    if not hosts.is_first():
        return
    console = rich.console.Console()
    for name, size in plan.sets:
        found = data.describe(name, size)
        counts = ", ".join(f"{n:,} {split}" for split, n in found.examples.items())
        shape = "x".join(map(str, found.shape))
        console.print(
            f"{name}: {counts}; {found.num_classes} classes; {shape} pixels",
            highlight=False,
        )
    table = rich.table.Table(title=title, title_justify="left")
    heads = ["training", "network", "parameters", "networks", "steps", "batch"]
    for place, head in enumerate([*heads, *(["hours"] if measured else [])]):
        side = "left" if place < 2 else "right"
        table.add_column(head, justify=side, overflow="fold")
    for place, its in enumerate(plan.trainings):
        cells = [its.name, its.network.name, f"{its.network.parameters:,}"]
        cells += [f"{its.members:,}", f"{its.steps:,}", f"{its.batch_size:,}"]
        if measured:
            cells.append(f"{its.members * its.steps * measured[place] / 3600:.3g}")
        table.add_row(*cells)
    console.print(table)
    hours = ""
    if measured:
        total = sum(
            its.members * its.steps * measured[place]
            for place, its in enumerate(plan.trainings)
        )
        hours = f"; {total / 3600:.3g} hours of training on this machine"
    if plan.stored:
        console.print(
            f"stored predictions for all training images: {_size(plan.stored)} of the "
            "device's memory",
            highlight=False,
        )
    console.print(
        f"{plan.steps:,} steps of single networks; {plan.programs} training programs; "
        f"memory {_size(plan.memory)} without activations; checkpoints "
        f"{_size(plan.disk)}{hours}",
        highlight=False,
    )


def measure(plan: Plan) -> dict[int, float]:
    """Seconds of a step of each training, by its place; equal ones once."""
    known: dict[Any, float] = {}
    found = {}
    for place, its in enumerate(plan.trainings):
        kind = its.network, its.batch_size, its.teachers
        if kind not in known:
            known[kind] = seconds_of_a_step(its)
        found[place] = known[kind]
    return found


def _size(count: int) -> str:
    """Bytes in words.

    >>> _size(2_500_000)
    '2.5 MB'
    """
    value, unit = float(count), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.3g} {unit}"


def epochs(
    its: data.Description, batch_size: int, count: int, remainder: str = "drop"
) -> int:
    """Steps of some epochs; see `data.num_steps`."""
    return data.num_steps(count, its.examples["train"], batch_size, remainder)


def of(config: Any, size: int | None = None) -> data.Description:
    """The set of a config, cut to its `train_examples`.

    Args:
      config: of a study, with `dataset` and `train_examples`.
      size: side in pixels; None is the config's `image_size`, else the set's own.
    """
    size = getattr(config, "image_size", None) if size is None else size
    found = data.describe(config.dataset, size)
    train = found.examples["train"]
    train = min(
        train if config.train_examples is None else config.train_examples, train
    )
    return dataclasses.replace(found, examples={**found.examples, "train": train})


def table_of_presets(plans: Sequence[tuple[str, Plan]]) -> None:
    """Prints a line for each plan."""
    table = rich.table.Table(title="Plans", title_justify="left")
    for place, head in enumerate(
        ["preset", "networks", "steps", "programs", "memory", "checkpoints"]
    ):
        side = "left" if place == 0 else "right"
        table.add_column(head, justify=side, overflow="fold")
    for name, plan in plans:
        networks = sum(its.members for its in plan.trainings)
        cells = [name, f"{networks:,}", f"{plan.steps:,}", str(plan.programs)]
        table.add_row(*cells, _size(plan.memory), _size(plan.disk))
    rich.console.Console().print(table)
