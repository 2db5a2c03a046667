"""Time and memory of a map of all layers against all layers.

    python -m experiments.benchmarks.similarity [--layers 16] [--units 512] ...

Needs the extra `[bench]` (cca-zoo). Takes about a quarter of an hour on 2 cores;
RESULTS.md in this folder has the last table.

    ours      similarity.matrix: each layer is whitened once, all pairs in one program
    NumPy     pair by pair by the published steps of google/svcca; for svcca, first the
              singular value decomposition of each layer, as in its tutorial
    cca-zoo   pair by pair, CCA(n_components=units).fit(pair).score(pair)

All get the same float32 activations of two networks. NumPy's covariances are float64,
as in the reference. NumPy and cca-zoo run some pairs drawn at random; their seconds are
scaled to all pairs. Each contender has its own process and all cores; they take turns,
so that a slow minute of the machine slows all. Seconds are medians over turns (minimum
to maximum). CPU seconds, the median of the time of all threads, depend less on other
load. Peak memory is the growth of the resident set during the turn, beyond what the
process held before, including the activations; it needs Linux.
"""

import contextlib
import ctypes
import dataclasses
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Sizes and repeats."""

    layers: int = 16  # of each of two networks
    units: int = 512
    examples: int = 10_000
    pairs: int = 8  # for the rivals
    repeats: int = 3  # after a first turn, which compiles


Pairs = list[tuple[int, int]]
Networks = tuple[dict[str, np.ndarray], dict[str, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Turn:
    """One run: seconds, memory in MB, the similarities found, versions."""

    seconds: float
    cpu_seconds: float
    peak_mb: float
    values: np.ndarray
    versions: str


def main(config: Config) -> None:
    """Runs all contenders and prints the table."""
    spawn = multiprocessing.get_context("spawn")
    pairs = some_pairs(config)
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder) / "networks.npz", *layers(config))
        workers = {name: _Worker(spawn, name, folder, pairs) for name in CONTENDERS}
        first = {name: worker.turn() for name, worker in workers.items()}
        turns: dict[str, list[Turn]] = {name: [] for name in workers}
        for _ in range(config.repeats):
            for name, worker in workers.items():
                turns[name].append(worker.turn())
        for worker in workers.values():
            worker.stop()
    print(f"{config}\n")
    print(table(config, pairs, first, turns))


def some_pairs(config: Config) -> Pairs:
    """Draws the pairs of layers that the rivals compare."""
    rng = np.random.default_rng(1)
    every = [(i, j) for i in range(config.layers) for j in range(config.layers)]
    chosen = rng.choice(len(every), min(config.pairs, len(every)), replace=False)
    return [every[index] for index in sorted(chosen)]


def layers(config: Config) -> list[np.ndarray]:
    """Makes activations of both networks in turn, float32 [examples, units].

    All layers share a quarter of their directions. The variances of the directions fall
    as a power of their rank, as in trained networks.
    """
    rng = np.random.default_rng(0)
    shared = rng.standard_normal((config.examples, config.units // 4))
    spread = np.arange(1, config.units + 1) ** -0.75
    out = []
    for _ in range(2 * config.layers):
        own = rng.standard_normal((config.examples, config.units))
        own[:, : shared.shape[1]] += shared
        turn, _ = np.linalg.qr(rng.standard_normal((config.units, config.units)))
        out.append(((own * spread) @ turn).astype(np.float32))
    return out


def ours(networks: Networks, _: Pairs, measure: str) -> np.ndarray:
    """Computes the whole map, [layers, layers]."""
    from kd_heuristics import similarity

    return np.asarray(similarity.matrix(*networks, measure))


def numpy_pairs(networks: Networks, pairs: Pairs, measure: str) -> np.ndarray:
    """Computes similarities of the pairs by the published steps, [pairs]."""
    a, b = (list(network.values()) for network in networks)
    reduce: Callable = leading if measure == "svcca" else np.asarray
    return np.array([mean_correlation(reduce(a[i]), reduce(b[j])) for i, j in pairs])


def zoo_pairs(networks: Networks, pairs: Pairs, measure: str) -> np.ndarray:
    """Computes similarities of the pairs by cca-zoo, [pairs]; it has only cca."""
    from cca_zoo.linear import CCA

    if measure != "cca":
        raise ValueError(f"cca-zoo has no {measure}")
    a, b = (list(network.values()) for network in networks)
    found = []
    for i, j in pairs:
        both: list[Any] = [a[i], b[j]]
        width = min(layer.shape[1] for layer in both)
        found.append(CCA(n_components=width).fit(both).score(both))
    return np.array(found)


def mean_correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Computes the mean canonical correlation by covariances and their roots."""
    both = np.cov(x, y, rowvar=False)
    p = x.shape[1]
    xx, yy, xy = both[:p, :p], both[p:, p:], both[:p, p:]
    top_x, top_y = np.abs(xx).max(), np.abs(yy).max()
    left = root(np.linalg.pinv(xx / top_x))
    right = root(np.linalg.pinv(yy / top_y))
    _, rho, _ = np.linalg.svd(left @ (xy / np.sqrt(top_x * top_y)) @ right)
    return float(rho.mean())


def root(matrix: np.ndarray) -> np.ndarray:
    """Returns the square root of a Hermitian positive definite matrix."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.conj().T


def leading(x: np.ndarray, variance: float = 0.99) -> np.ndarray:
    """Projects a layer onto leading directions that hold a share of its variance."""
    u, s, _ = np.linalg.svd(x - x.mean(0), full_matrices=False)
    count = int(np.argmax(np.cumsum(s**2) >= variance * np.sum(s**2))) + 1
    return u[:, :count] * s[:count]


# Name -> (function, measure, distribution whose version is named).
CONTENDERS: dict[str, tuple[Callable[..., np.ndarray], str, str]] = {
    "cca, ours": (ours, "cca", "jax"),
    "cca, NumPy": (numpy_pairs, "cca", "numpy"),
    "cca, cca-zoo": (zoo_pairs, "cca", "cca-zoo"),
    "svcca, ours": (ours, "svcca", "jax"),
    "svcca, NumPy": (numpy_pairs, "svcca", "numpy"),
}


def table(
    config: Config, pairs: Pairs, first: dict[str, Turn], turns: dict[str, list[Turn]]
) -> str:
    """Returns the table for RESULTS.md."""
    lines = [
        "| measure, contender | seconds for the map | CPU seconds | against ours | "
        "memory (MB) | first turn (s) | values apart |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, own in turns.items():
        measure = CONTENDERS[name][1]
        base = turns[f"{measure}, ours"]
        whole = np.ndim(own[0].values) == 2
        scale = 1.0 if whole else config.layers**2 / len(pairs)
        wall = [scale * turn.seconds for turn in own]
        cpu = statistics.median(scale * turn.cpu_seconds for turn in own)
        ratio, apart = "–", "–"
        if not whole:
            best = statistics.median(turn.seconds for turn in base)
            best_cpu = statistics.median(turn.cpu_seconds for turn in base)
            ratio = f"{statistics.median(wall) / best:.1f}, CPU {cpu / best_cpu:.1f}"
            at = tuple(np.array(pairs).T)
            apart = f"{np.abs(own[0].values - base[0].values[at]).max():.0e}"
        lines.append(
            f"| {name} ({own[0].versions}) | {statistics.median(wall):.1f} "
            f"({min(wall):.1f} to {max(wall):.1f}) | {cpu:.1f} | {ratio} | "
            f"{max(turn.peak_mb for turn in own):.0f} | "
            f"{scale * first[name].seconds:.1f} | {apart} |"
        )
    return "\n".join(lines)


class _Worker:
    """Process of a contender, which runs on request."""

    def __init__(self, spawn, name, folder, pairs):
        self.pipe, other = spawn.Pipe()
        arguments = (other, name, Path(folder) / "networks.npz", pairs)
        # A daemon ends with the benchmark, however that ends.
        self.process = spawn.Process(target=_serve, args=arguments, daemon=True)
        self.process.start()

    def turn(self) -> Turn:
        self.pipe.send(True)
        return self.pipe.recv()

    def stop(self):
        self.pipe.send(False)
        self.process.join()


def _serve(pipe, name, path, pairs):
    from importlib import metadata

    function, measure, package = CONTENDERS[name]
    with np.load(path) as file:
        arrays = [file[f"arr_{index}"] for index in range(len(file.files))]
    half = len(arrays) // 2
    networks = tuple(
        {f"{index:02d}": layer for index, layer in enumerate(part)}
        for part in (arrays[:half], arrays[half:])
    )
    versions = f"{package} {metadata.version(package)}, {os.cpu_count()} cores"
    while pipe.recv():
        forget_peak()
        before = resident("VmRSS")
        start, cpu = time.perf_counter(), time.process_time()
        values = function(networks, pairs, measure)
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        peak = resident("VmHWM") - before
        pipe.send(Turn(seconds, cpu, peak, values, versions))


def forget_peak() -> None:
    """Resets the peak of this process's memory.

    Freed memory is returned to the system first; otherwise its reuse would not count.
    """
    with contextlib.suppress(OSError, AttributeError):  # glibc only
        ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")


def resident(name: str) -> float:
    """Returns the process's memory in MB: "VmRSS" now, "VmHWM" at its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(name))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    import tyro  # here, because `gpu` runs without it

    main(tyro.cli(Config))
