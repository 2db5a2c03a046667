"""Time and memory of evaluating many points of a curve.

    python -m experiments.benchmarks.curve_eval [--width 0.25] [--points 61] ...

Each point of a segment between two batch-norm networks takes a pass over the training
set that re-estimates the statistics (cumulative averages, as Garipov et al. 2018), and
a pass over the test set for loss and accuracy. Each contender has its own process and
both cores; they take turns, so that a slow minute of the machine slows all.

    ours      points.evaluate
    loop      the same two passes of one point as one jitted program, in a Python loop
    torch     PyTorch eager, channels last, inference mode, point by point; its threads
              wait passively, without which it is 10 times slower on a shared machine
    ours, 8   ours with 8 points, to measure its memory

Seconds are medians over turns (minimum to maximum). CPU seconds, the median of the time
of all threads, depend less on other load. Peak memory is that of the resident set while
a contender runs, without compilation; it needs Linux. PyTorch's running variances are
unbiased, ours are not, so losses agree to a per cent only.

Needs the extra `[bench]` (PyTorch). The defaults, quarter-width vgg16_bn, 61 points,
two passes over 128 images per point, take about two minutes; RESULTS.md in this folder
has the last table.
"""

import dataclasses
import multiprocessing
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from experiments.benchmarks import curve_torch


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Sizes and repeats."""

    model: str = "vgg16_bn"
    width: float = 0.25
    classifier_width: int = 128
    points: int = 61
    chunk: int = 8
    examples: int = 128  # of each set
    batch_size: int = 128
    repeats: int = 3  # after a short run that compiles
    threads: int = 2  # for PyTorch; JAX uses all cores
    dtype: str = "float32"


def main(config: Config) -> None:
    """Runs all contenders and prints the table."""
    few = dataclasses.replace(config, points=config.chunk)
    contenders = {
        "ours": (ours, config),
        "loop": (loop, config),
        "torch": (curve_torch.points, config),
        f"ours, {few.points}": (ours, few),
    }
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "networks.npz"
        _run(spawn.Process(target=_prepare, args=(config, path)))
        workers = {
            name: _Worker(spawn, make, own, path)
            for name, (make, own) in contenders.items()
        }
        for worker in workers.values():
            worker.turn(2)  # compiles
        turns = {name: [] for name in workers}
        for _ in range(config.repeats):
            for name, worker in workers.items():
                turns[name].append(worker.turn(contenders[name][1].points))
        for worker in workers.values():
            worker.stop()
    _print(config, turns)


@dataclasses.dataclass(frozen=True)
class Turn:
    """One run: seconds, peak resident memory in MB, loss at each point, versions."""

    seconds: float
    cpu_seconds: float
    peak_mb: float
    losses: np.ndarray
    versions: str


class _Worker:
    """Process of a contender, which runs on request."""

    def __init__(self, spawn, make, config, path):
        self.pipe, other = spawn.Pipe()
        arguments = (other, make, config, path)
        # A daemon ends with the benchmark, however that ends.
        self.process = spawn.Process(target=_serve, args=arguments, daemon=True)
        self.process.start()

    def turn(self, num_points) -> Turn:
        self.pipe.send(num_points)
        return self.pipe.recv()

    def stop(self):
        self.pipe.send(None)
        self.process.join()


def _serve(pipe, make, config, path):
    os.environ["OMP_WAIT_POLICY"] = "passive"
    with np.load(path) as file:
        run, versions = make(config, dict(file))
    while (num_points := pipe.recv()) is not None:
        _forget_peak()
        start, cpu = time.perf_counter(), time.process_time()
        losses = run(np.linspace(0, 1, config.points)[:num_points])
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        pipe.send(Turn(seconds, cpu, _peak_mb(), np.asarray(losses), versions))


def _run(process):
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError(f"a process of the benchmark ended with {process.exitcode}")


def _forget_peak():
    Path("/proc/self/clear_refs").write_text("5")


def _peak_mb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    (peak,) = (line for line in lines if line.startswith("VmHWM"))
    return int(peak.split()[1]) / 1024


def _prepare(config, path):
    """Writes two random networks and the images as NumPy arrays to a file."""
    from kd_heuristics import data

    sets = {
        name: data.load("digits_photo", name).take(config.examples)
        for name in ("train", "test")
    }
    np.savez(path, allow_pickle=False, **arrays_of(config, sets))


def arrays_of(config: Config, sets: dict[str, Any]) -> dict[str, Any]:
    """Makes the contenders' inputs: two random networks, the sets' pixels and labels.

    Args:
      config: names the network.
      sets: "train" and "test", each a `data.Dataset` with 10 classes.
    """
    import jax
    import jax.numpy as jnp

    from kd_heuristics import data

    network = _network(config)
    arrays: dict[str, Any] = {}
    for end in (0, 1):
        images = jnp.zeros((1, *sets["train"].images.shape[1:]))
        variables = network.init(jax.random.key(end), images)
        for leaf_path, leaf in jax.tree_util.tree_leaves_with_path(variables):
            name = jax.tree_util.keystr(leaf_path, simple=True, separator="/")
            arrays[f"{end}/{name}"] = np.asarray(leaf)
    for name, dataset in sets.items():
        arrays |= {f"{name}_images": dataset.images, f"{name}_labels": dataset.labels}
    mean, std = data.channel_stats(sets["train"])
    return arrays | {"mean": np.array(mean), "std": np.array(std)}


def _network(config):
    from kd_heuristics import models

    return models.create(
        config.model,
        10,
        width=config.width,
        classifier_width=config.classifier_width,
        dropout_rate=0.0,
        dtype=config.dtype,
    )


def ours(config: Config, arrays: dict[str, np.ndarray]) -> tuple[Any, str]:
    """Returns `ts -> losses` by `points.evaluate`, and the versions."""
    from kd_heuristics import points

    curve, test, metric, refresh, versions = _jax_parts(config, arrays)

    def run(ts):
        found = points.evaluate(curve.at, ts, test, metric, refresh, config.chunk)
        return found["loss"]

    return run, versions


def loop(config: Config, arrays: dict[str, np.ndarray]) -> tuple[Any, str]:
    """Returns a hand-written version: a jitted function called point by point."""
    import jax

    from kd_heuristics.runtime import compiled

    curve, test, metric, refresh, versions = _jax_parts(config, arrays)

    @compiled.jit
    def point(curve, t, refresh, batches):
        params = curve.at(t)
        stats = refresh(params)

        def add(total, batch):
            return total + metric(params, stats, batch)["loss"].sum(), None

        total, _ = jax.lax.scan(add, 0.0, batches)
        return total / config.examples

    return lambda ts: [float(point(curve, t, refresh, test)) for t in ts], versions


def _jax_parts(config, arrays):
    import jax

    from experiments.common import paths
    from kd_heuristics import curves, data, training

    ends = [_tree(arrays, f"{end}/") for end in (0, 1)]
    classifier = training.Classifier(
        _network(config), tuple(arrays["mean"]), tuple(arrays["std"])
    )
    train, test = (
        data.eval_batches(
            data.Dataset(arrays[f"{name}_images"], arrays[f"{name}_labels"], 10, name),
            config.batch_size,
        )
        for name in ("train", "test")
    )
    refresh = paths.statistics(classifier, ends[0]["batch_stats"], train, "cumulative")
    curve = curves.line(*(end["params"] for end in ends))
    return curve, test, classifier.metric, refresh, f"jax {jax.__version__}"


def _tree(arrays, prefix):
    """Returns the arrays whose names have the prefix, as a nested dictionary."""
    tree: dict[str, Any] = {}
    for name, array in arrays.items():
        if name.startswith(prefix):
            *folders, last = name.removeprefix(prefix).split("/")
            level = tree
            for folder in folders:
                level = level.setdefault(folder, {})
            level[last] = array
    return tree


def _print(config, turns):
    ours = turns["ours"][0].losses
    print(f"{config}\n")
    print("| contender | seconds | CPU seconds | against ours | peak MB | loss apart |")
    print("|---|---|---|---|---|---|")
    base = [statistics.median(values) for values in _times(turns["ours"])]
    for name, own in turns.items():
        wall, cpu = _times(own)
        medians = [statistics.median(values) for values in (wall, cpu)]
        ratio, apart = "–", "–"
        if len(own[0].losses) == len(ours):
            first, second = (x / y for x, y in zip(medians, base, strict=True))
            ratio = f"{first:.2f}, CPU {second:.2f}"
            apart = f"{np.abs(own[0].losses / ours - 1).max():.1e}"
        print(
            f"| {name} ({own[0].versions}) | {medians[0]:.1f} ({min(wall):.1f} to "
            f"{max(wall):.1f}) | {medians[1]:.1f} | {ratio} | "
            f"{max(turn.peak_mb for turn in own):.0f} | {apart} |"
        )


def _times(turns):
    return [t.seconds for t in turns], [t.cpu_seconds for t in turns]


if __name__ == "__main__":
    import tyro  # here, because `gpu` runs without it

    main(tyro.cli(Config))
