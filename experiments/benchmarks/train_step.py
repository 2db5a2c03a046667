"""A training step and inference of our networks, against PyTorch.

    python -m experiments.benchmarks.train_step [--models vgg16 resnet20] [--repeats 5]

Needs the extra `[bench]` (PyTorch). The whole table takes about half an hour on 2
cores; RESULTS.md in this folder has the last one.

    scan      our step in `jax.lax.scan`, several per call, as `training.fit` compiles
    loop      the same step, jitted, called in a Python loop
    PyTorch   eager or, with --compile, compiled; channels last, fused SGD; on a CPU,
              its fastest number of threads

All three do the same: forward pass in training mode, mean cross-entropy, gradient, SGD
with momentum, one batch that stays in memory. They take turns, so that a slow minute of
the machine slows all; ratios are those of medians. In the same run, a matrix product
shows the peak speed of the cores. `gpu` measures the same on a GPU.
"""

import dataclasses
import functools
import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from kd_heuristics import models, training
from kd_heuristics.runtime.compiled import jit

QUARTER = {"width": 0.25, "classifier_width": 128}

# name in the table -> name of the network, its options
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "vgg11": ("vgg11", {}),
    "vgg11_quarter": ("vgg11", QUARTER),
    "vgg16": ("vgg16", {}),
    "vgg16_quarter": ("vgg16", QUARTER),
    "resnet18": ("resnet18", {}),
    "resnet20": ("resnet20", {}),
}

_MATRIX = 2048  # side of the matrix product


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Networks, sizes and repeats.

    Attributes:
      models: names from `CASES`.
      batch: images per step.
      repeats: turns of each contender, after one that compiles.
      seconds: approximate length of a turn, which sets the number of steps.
      processor_time: measure the processor time of all threads, not wall time; with one
        core (`taskset -c 0 python ...`), other programs on the machine then hardly
        matter.
      dtype: type in which the networks compute.
      device: device of PyTorch, "cpu" or "cuda"; ours run on jax's first device.
      compile: mode of `torch.compile`, such as "default"; `None` runs eagerly.
    """

    models: tuple[str, ...] = tuple(CASES)
    batch: int = 128
    repeats: int = 7
    seconds: float = 1.0
    processor_time: bool = False
    dtype: str = "float32"
    device: str = "cpu"
    compile: str | None = None


class Ours:
    """Our network with its optimiser and one batch, like `torch_models.Rival`."""

    def __init__(
        self, name: str, options: dict, images: np.ndarray, labels: np.ndarray
    ):
        self._network = models.create(name, 10, **options)
        self._images, self._labels = jnp.asarray(images), jnp.asarray(labels)
        variables = self._network.init(jax.random.key(0), self._images[:1])
        self._optimizer = training.sgd(0.01, momentum=0.9)
        opt_state = self._optimizer.init(variables["params"])
        stats = variables.get("batch_stats", {})
        self.state = variables["params"], stats, opt_state
        self._turns = 0

    @property
    def num_parameters(self) -> int:
        return sum(leaf.size for leaf in jax.tree.leaves(self.state[0]))

    def scan(self, steps: int) -> None:
        """Takes steps in one compiled call."""
        self.state = jax.block_until_ready(self._scanned(self.state, self._keys(steps)))

    def loop(self, steps: int) -> None:
        """Calls one compiled step repeatedly, and waits only for the last."""
        for key in self._keys(steps):
            self.state = self._single(self.state, key)
        jax.block_until_ready(self.state)

    def infer(self, steps: int) -> None:
        """Runs forward passes in evaluation mode."""
        variables = training.with_stats(*self.state[:2])
        outputs = [self._forward(variables, self._images) for _ in range(steps)]
        jax.block_until_ready(outputs)

    def _keys(self, steps):
        self._turns += 1
        return jax.random.split(jax.random.key(self._turns), steps)

    @functools.cached_property
    def _scanned(self):
        def run(state, keys):
            return jax.lax.scan(lambda s, key: (self._step(s, key), None), state, keys)

        return jit(lambda state, keys: run(state, keys)[0], donate_argnums=0)

    @functools.cached_property
    def _single(self):
        return jit(self._step, donate_argnums=0)

    @functools.cached_property
    def _forward(self):
        return jit(self._network.apply)

    def _step(self, state, key):
        params, stats, opt_state = state

        def objective(params):
            variables = training.with_stats(params, stats)
            logits, moved = self._network.train(variables, self._images, key)
            losses = training.cross_entropy_and_accuracy(logits, self._labels)["loss"]
            return losses.mean(), moved

        gradient, stats = jax.grad(objective, has_aux=True)(params)
        updates, opt_state = self._optimizer.update(gradient, opt_state, params)
        return optax.apply_updates(params, updates), stats, opt_state


def main(config: Config) -> None:
    """Measures and prints a Markdown table."""
    try:  # as in each benchmark against PyTorch
        from experiments.benchmarks import torch_models
    except ImportError as error:
        raise SystemExit(
            "this benchmark needs PyTorch: pip install 'kd_heuristics[bench]'"
        ) from error
    unknown = sorted({*config.models} - {*CASES})
    if unknown:
        raise SystemExit(f"unknown models {unknown}; valid: {', '.join(CASES)}")
    cores = len(os.sched_getaffinity(0))
    print(describe("train_step", torch_models.torch))
    print("\n".join(HEADER), flush=True)
    for label in config.models:
        row = measure_case(config, label, torch_models, cores)
        print("| " + " | ".join([label, *row]) + " |", flush=True)


def describe(name: str, torch: Any) -> str:
    """Describes command, versions and machine, for the head of a table."""
    cores = len(os.sched_getaffinity(0))
    return (
        f"`python -m experiments.benchmarks.{name} {' '.join(sys.argv[1:])}`\n\n"
        f"{_versions(torch)}, {cores} cores ({_processor()})\n"
    )


HEADER = (
    "| network | scan, loop, PyTorch: images/s | scan : PyTorch | scan : loop "
    "| inference, PyTorch: images/s | ratio | compilation s "
    "| GF/s: scan, PyTorch, product | PyTorch |",
    "|---|---|---|---|---|---|---|---|---|",
)


def measure_case(config: Config, label: str, torch_models: Any, cores: int) -> list:
    """Measures one network; returns the cells of its row."""
    name, options = CASES[label]
    random = np.random.default_rng(0)
    images = random.normal(size=(config.batch, 32, 32, 3)).astype(np.float32)
    labels = random.integers(0, 10, config.batch).astype(np.int32)
    ours = Ours(name, options | {"dtype": config.dtype}, images, labels)
    half = config.dtype == "bfloat16"
    settings = torch_models.Settings(config.device, half, config.compile)
    rival = torch_models.rival(name, options, images, labels, settings)
    if ours.num_parameters != rival.num_parameters:
        raise RuntimeError(
            f"{label} is not the same network: {ours.num_parameters} parameters here, "
            f"{rival.num_parameters} in PyTorch"
        )
    how = rival.settings.mode or "eager"
    if config.device == "cpu":
        threads = torch_models.best_threads(lambda: rival.train(1), cores)
        torch_models.torch.set_num_threads(threads)
        how = f"{how}, {threads} threads"
    steps = steps_for(config.seconds, lambda: rival.train(1))
    passes = steps_for(config.seconds, lambda: rival.infer(1))
    start = time.perf_counter()
    ours.scan(steps)
    compilation = time.perf_counter() - start
    seconds = take_turns(
        {
            "scan": lambda: ours.scan(steps),
            "loop": lambda: ours.loop(steps),
            "torch": lambda: rival.train(steps),
            "infer": lambda: ours.infer(passes),
            "torch infer": lambda: rival.infer(passes),
            "product": _product(config.dtype),
        },
        config.repeats,
        time.process_time if config.processor_time else time.perf_counter,
    )
    middle = {key: statistics.median(values) for key, values in seconds.items()}
    rate = {
        key: config.batch * (passes if "infer" in key else steps) / value
        for key, value in middle.items()
    }
    speed = rival.flops() * steps / 1e9
    product = 2 * _MATRIX**3 / 1e9 / middle["product"]
    return [
        f"{rate['scan']:,.0f}, {rate['loop']:,.0f}, {rate['torch']:,.0f}",
        ratio(seconds["torch"], seconds["scan"]),
        ratio(seconds["loop"], seconds["scan"]),
        f"{rate['infer']:,.0f}, {rate['torch infer']:,.0f}",
        ratio(seconds["torch infer"], seconds["infer"]),
        f"{compilation - middle['scan']:.0f}",
        f"{speed / middle['scan']:.0f}, {speed / middle['torch']:.0f}, {product:.0f}",
        how,
    ]


def take_turns(
    contenders: Mapping[str, Callable[[], Any]],
    repeats: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Returns seconds of each contender's turns, after one that does not count.

    >>> seconds = take_turns({"a": lambda: None, "b": lambda: None}, 3)
    >>> [len(values) for values in seconds.values()]
    [3, 3]
    """
    for run in contenders.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(repeats):
        for name, run in contenders.items():
            start = clock()
            run()
            seconds[name].append(clock() - start)
    return seconds


def ratio(slow: list[float], fast: list[float]) -> str:
    """Formats the ratio of medians, and the range of the turns' ratios.

    >>> ratio([2.0, 3.0, 4.0], [2.0, 2.0, 2.0])
    '1.50 (1.00 to 2.00)'
    """
    own = [a / b for a, b in zip(slow, fast, strict=True)]
    middle = statistics.median(slow) / statistics.median(fast)
    return f"{middle:.2f} ({min(own):.2f} to {max(own):.2f})"


def steps_for(seconds: float, run: Callable[[], Any]) -> int:
    """Returns how often to run to fill these seconds, at least twice."""
    run()
    start = time.perf_counter()
    run()
    return max(2, math.ceil(seconds / (time.perf_counter() - start)))


def _product(dtype: str) -> Callable[[], Any]:
    a = jax.random.normal(jax.random.key(0), (_MATRIX, _MATRIX)).astype(dtype)
    multiply = jax.jit(jnp.matmul)
    return lambda: jax.block_until_ready(multiply(a, a))


def _versions(torch):
    python = platform.python_version()
    return f"Python {python}, jax {jax.__version__}, PyTorch {torch.__version__}"


def _processor():
    with open("/proc/cpuinfo") as lines:
        names = [line.split(":")[1].strip() for line in lines if "model name" in line]
    return names[0] if names else platform.processor()


if __name__ == "__main__":
    import tyro  # here, because `gpu` runs without it

    main(tyro.cli(Config))
