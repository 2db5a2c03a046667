"""All benchmarks on one GPU, in bfloat16, within ten minutes; installs nothing.

    python -m experiments.benchmarks.gpu [--device cpu] [--seconds 540] [--quick] ...

Needs a checkout of this repository, jax for the device, flax, optax and PyTorch. It
prints the rows of Markdown tables for RESULTS.md in this folder as they are measured:

    networks     a training step and inference, as `train_step`, against PyTorch with
                 torch.compile (eager if that fails, as a line then reports)
    curve        61 points of a curve, as `curve_eval`, against a jitted point called 61
                 times
    map          16 x 16 layers by `similarity.matrix`, against `similarity.cca` called
                 pair by pair on the device, and NumPy pair by pair on the host
    population   8 networks, as `population`, against one after the other
    strategies   vmap, map and loop, which `parallel.strategies` chooses from

A row starts only if there is time for one as long as the last of its table. Skipped
rows are listed at the end; `--only strategies` and the like measures them alone.
`--device cpu --quick` runs everything in miniature; its numbers mean nothing.
"""

import argparse
import functools
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from experiments.benchmarks import bare
from experiments.benchmarks.gpu_sizes import FULL, QUICK, Sizes

TABLES = ("networks", "curve", "map", "population", "strategies")
_GUESS = 60.0  # seconds that a table's first row may take


TINY = {"width": 0.05, "classifier_width": 8}


class Budget:
    """Time left, and rows that were dropped for lack of it."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._end = clock() + seconds
        self._longest: dict[str, float] = {}
        self.dropped: list[str] = []

    def row(self, table: str, name: str, measure: Callable[[], Any]) -> Any:
        """Calls `measure`; returns None if a row as long as the last does not fit."""
        start = self._clock()
        if start + self._longest.get(table, _GUESS) > self._end:
            self.dropped.append(f"{table}: {name}")
            return None
        found = measure()
        self._longest[table] = self._clock() - start
        return found


def main(arguments: list[str] | None = None) -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="python -m experiments.benchmarks.gpu")
    parser.add_argument("--device", choices=("gpu", "cpu"), default="gpu")
    parser.add_argument("--seconds", type=float, default=540.0)
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--compile", default="reduce-overhead", help="or default, off")
    parser.add_argument("--only", nargs="+", choices=TABLES, default=TABLES)
    parser.add_argument("--quick", action="store_true")
    own = parser.parse_args(arguments)
    if own.device == "cpu":
        os.environ["JAX_PLATFORMS"] = "cpu"
    # PyTorch needs memory on the same GPU.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    missing = bare.fill()
    import jax

    if jax.default_backend() != own.device:
        raise SystemExit(
            f"jax finds no {own.device} here, but {jax.devices()}; --device cpu "
            "measures the processor"
        )
    bench = Bench(own, QUICK if own.quick else FULL)
    print(bench.head(missing), flush=True)
    budget = Budget(own.seconds)
    for table, header, rows in bench.tables():
        if table not in own.only:
            continue
        print(f"\n## {table}\n\n{header}\n|{'---|' * (header.count('|') - 1)}")
        for name, measure in rows:
            for cells in budget.row(table, name, measure) or ():
                print("| " + " | ".join(cells) + " |", flush=True)
    if budget.dropped:
        print(f"\nDropped for lack of time: {'; '.join(budget.dropped)}.")


Rows = Iterator[tuple[str, Callable[[], list[list[str]]]]]


class Bench:
    """Tables measured on one device."""

    def __init__(self, own: argparse.Namespace, sizes: Sizes):
        self.own, self.sizes = own, sizes
        self.where = {
            "dtype": own.dtype,
            "device": "cuda" if own.device == "gpu" else "cpu",
            "compile": None if own.compile == "off" else own.compile,
        }

    def head(self, missing: list[str]) -> str:
        """Returns date, command, versions and devices."""
        import jax

        from experiments.benchmarks import torch_models
        from experiments.benchmarks.train_step import describe

        torch = torch_models.torch
        if self.own.device == "gpu":
            torch.backends.cudnn.benchmark = True
        named = "".join(f", without {name}" for name in missing)
        found = jax.devices()[0].device_kind
        theirs = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
        return (
            f"{time.strftime('%Y-%m-%d')}: {describe('gpu', torch)}"
            f"jax on {found}, PyTorch on {theirs}; {self.own.dtype}{named}"
        )

    def tables(self) -> Iterator[tuple[str, str, Rows]]:
        """Yields name, header and rows of tables; a row is a name and a function."""
        from experiments.benchmarks import train_step

        yield "networks", train_step.HEADER[0], self.networks()
        header = "| what | ours, seconds | the other, seconds | ratio |"
        yield "curve", header, iter([(f"{self.sizes.points} points", self.curve)])
        yield "map", header, iter([("by pairs", self.map)])
        header = "| what | contender | images/s | the first is faster by |"
        yield "population", header, iter([("quarter width", self.population)])
        header = "| what | strategy | a second | the first is faster by |"
        yield "strategies", header, self.strategies()

    def networks(self) -> Rows:
        """Yields a row for each network."""
        from experiments.benchmarks import torch_models, train_step

        train_step.CASES["tiny"] = ("vgg11", TINY)
        sizes = self.sizes
        config = train_step.Config(
            batch=sizes.batch, repeats=sizes.repeats, seconds=sizes.turn, **self.where
        )
        cores = len(os.sched_getaffinity(0))
        for label in sizes.networks:

            def row(label=label):
                cells = train_step.measure_case(config, label, torch_models, cores)
                return [[label, *cells]]

            yield label, row

    @functools.cache  # noqa: B019 - of the only bench of the process
    def _curve(self, width):
        """Returns points of a curve, its inputs (noise), and our losses at points."""
        from experiments.benchmarks import curve_eval
        from kd_heuristics import data

        sizes, random = self.sizes, np.random.default_rng(0)
        config = curve_eval.Config(
            model=sizes.curve,
            width=width,
            classifier_width=max(1, round(512 * width)),
            points=sizes.points,
            chunk=min(8, sizes.points),
            examples=sizes.examples,
            batch_size=min(sizes.batch, sizes.examples),
            dtype=self.own.dtype,
        )
        count = sizes.examples
        sets = {
            name: data.Dataset(
                random.integers(0, 256, (count, 32, 32, 3)).astype(np.uint8),
                random.integers(0, 10, count).astype(np.int32),
                10,
            )
            for name in ("train", "test")
        }
        arrays = curve_eval.arrays_of(config, sets)
        ours, _ = curve_eval.ours(config, arrays)
        return np.linspace(0, 1, config.points), (config, arrays), ours

    def curve(self) -> list[list[str]]:
        """Compares our tool on all points with a program of one point, called often."""
        from experiments.benchmarks import curve_eval

        ts, parts, ours = self._curve(self.sizes.widths[0])
        loop, _ = curve_eval.loop(*parts)
        runs = {"ours": lambda: ours(ts), "loop": lambda: loop(ts)}
        return [["one by one", *self._against(runs)]]

    def _against(self, runs, scale=1.0):
        """Returns seconds of the first, seconds of the second times `scale`, ratio."""
        from experiments.benchmarks.train_step import ratio, take_turns

        first, second = take_turns(runs, self.sizes.repeats).values()
        second = [scale * seconds for seconds in second]
        middle = [f"{statistics.median(own):.3f}" for own in (first, second)]
        return [*middle, ratio(second, first)]

    def map(self) -> list[list[str]]:
        """Compares a map of mean CCA with pairs on the device, and on the host."""
        import jax

        from experiments.benchmarks import similarity as benchmark
        from kd_heuristics import similarity

        sizes = self.sizes
        config = benchmark.Config(
            layers=sizes.layers,
            units=sizes.units,
            examples=sizes.activations,
            pairs=sizes.pairs,
        )
        arrays = benchmark.layers(config)
        first, second = (
            {f"{index:02d}": layer for index, layer in enumerate(part)}
            for part in (arrays[: sizes.layers], arrays[sizes.layers :])
        )
        networks = first, second
        pairs = benchmark.some_pairs(config)
        # Both of ours start from arrays on the device, as in our programs.
        here: Any = jax.device_put(networks)
        a, b = (list(network.values()) for network in here)
        others = {
            "pairs on the device": lambda: [
                float(similarity.cca(a[i], b[j]).mean()) for i, j in pairs
            ],
            "pairs by NumPy": lambda: benchmark.numpy_pairs(networks, pairs, "cca"),
        }
        scale = sizes.layers**2 / len(pairs)
        rows = []
        for name, other in others.items():
            runs = {"ours": lambda: benchmark.ours(here, pairs, "cca"), name: other}
            rows.append([name, *self._against(runs, scale)])
        return rows

    @functools.cache  # noqa: B019 - of the only bench of the process
    def _population(self, width):
        """Returns the config of `population`, and our forms of it."""
        from experiments.benchmarks import population

        config = population.Config(
            width=width,
            classifier_width=max(1, round(512 * width)),
            members=self.sizes.members,
            batch=self.sizes.batch,
            steps=self.sizes.steps,
            repeats=self.sizes.repeats,
            forms=("vmap", "map", "loop"),
            **self.where,
        )
        return config, population.ours(config)

    def population(self) -> list[list[str]]:
        """Compares networks at once, in turn, and PyTorch's in turn."""
        from experiments.benchmarks import population, torch_models

        config, forms = self._population(self.sizes.widths[0])
        name = f"{config.members} of {config.model}, width {config.width}"
        own = {form: forms[form] for form in ("vmap", "loop")}
        rows = population.measure(config, own, torch_models)
        return [[name, *row] for row in rows]

    def strategies(self) -> Rows:
        """Yields the strategies of repeated computations, by width."""
        for width in self.sizes.widths:
            yield (
                f"population, width {width}",
                lambda width=width: self._population_forms(width),
            )
            yield (
                f"points, width {width}",
                lambda width=width: self._point_forms(width),
            )

    def _population_forms(self, width):
        from experiments.benchmarks.train_step import take_turns

        config, forms = self._population(width)
        seconds = take_turns(forms, self.sizes.repeats)
        images = config.members * config.steps * config.batch
        return self._forms(f"population, width {width}, images", images, seconds)

    def _point_forms(self, width):
        from experiments.benchmarks.train_step import take_turns
        from kd_heuristics.runtime import parallel

        ts, _, run = self._curve(width)

        def by(strategy):
            table: Any = parallel._STRATEGIES[self.own.device]
            before = table["points"]
            table["points"] = strategy
            try:
                return run(ts)
            finally:
                table["points"] = before

        runs = {name: lambda name=name: by(name) for name in ("vmap", "loop")}
        seconds = take_turns(runs, self.sizes.repeats)
        return self._forms(f"points, width {width}, points", len(ts), seconds)

    def _forms(self, what, amount, seconds):
        from experiments.benchmarks.train_step import ratio

        first = seconds["vmap"]
        return [
            [what, name, f"{amount / statistics.median(own):,.1f}", ratio(own, first)]
            for name, own in seconds.items()
        ]


if __name__ == "__main__":
    main(sys.argv[1:])
