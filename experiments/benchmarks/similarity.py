"""A 16 x 16 similarity map against the way it is done pair by pair.

Question: what does whitening each layer once, in one compiled program, gain?
Rivals: a per-pair NumPy implementation with the steps of google/svcca (for svcca: the
SVD of both layers first, as its notebook does), and cca-zoo's CCA, pair by pair.

  python -m experiments.benchmarks.similarity                # 5 minutes on 2 cores
  python -m experiments.benchmarks.similarity --layers 4 --units 64 --examples 1000

Every measurement is a process of its own, so that peak memory and BLAS threads are
its own; the processes of the rivals take turns, `--rounds` times. All of them are
tried with one BLAS thread and with one a core, and each gets its better setting. A
pair costs a rival the same whatever the other pairs are, so it runs `--pairs` of
them and its map is that times the number of pairs; ours runs the whole map. cca-zoo
comes with `pip install cca-zoo`; without it, its rows are left out.

Expected on 2 CPU cores: ours at least 10 times as fast as the reference for cca, more
for svcca. The reference computes in float64, as NumPy's covariances do; ours in
float32, within 1e-4 of it (the last column).
"""

import dataclasses
import importlib.metadata
import importlib.util
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time

import numpy as np
import tyro


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Sizes of the benchmark."""

    layers: int = 16
    units: int = 512
    examples: int = 10_000
    pairs: int = 3
    """Pairs that a rival runs in a process."""
    rounds: int = 3
    """Processes of each rival and setting."""
    measures: tuple[str, ...] = ("cca", "google_cca", "svcca")
    worker: str | None = None
    """Used by the benchmark itself: measure this one and print a line of JSON."""


def main(config: Config) -> None:
    """Run every rival in turn and print the table."""
    if config.worker is not None:
        print(json.dumps(measure(config)))
        return
    cores = os.cpu_count() or 1
    jobs = [
        (f"{rival}:{name}", threads)
        for name in config.measures
        for rival in rivals(name)
        for threads in sorted({1, cores})
    ]
    results: dict[tuple[str, int], list[dict]] = {job: [] for job in jobs}
    for _ in range(config.rounds):
        for job in jobs:
            results[job].append(in_process(config, *job))
    report(config, results)


def rivals(name: str) -> list[str]:
    """Who computes the measure."""
    zoo = importlib.util.find_spec("cca_zoo") is not None and name == "cca"
    return ["ours", "pairwise", *(["cca-zoo"] if zoo else [])]


def in_process(config: Config, worker: str, threads: int) -> dict:
    """One measurement in a fresh process with this many BLAS threads."""
    sizes = [f"--{k}={getattr(config, k)}" for k in ("layers", "units", "examples")]
    command = [sys.executable, "-m", "experiments.benchmarks.similarity"]
    command += [*sizes, f"--pairs={config.pairs}", f"--worker={worker}"]
    limits = {f"{lib}_NUM_THREADS": str(threads) for lib in ("OPENBLAS", "OMP", "MKL")}
    done = subprocess.run(
        command, env=os.environ | limits, check=True, stdout=subprocess.PIPE, text=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def measure(config: Config) -> dict:
    """Seconds for a map, peak memory over that of the data, and some entries."""
    rival, name = str(config.worker).split(":")
    nets = [activations(config, seed) for seed in (0, 1)]
    before = peak_mib()
    if rival == "ours":
        seconds, values = our_map(name, *nets)
    else:
        seconds, values = pair_by_pair(rival, name, config.pairs, *nets)
    return {"seconds": seconds, "mib": peak_mib() - before, "values": values}


def activations(config: Config, seed: int) -> dict[str, np.ndarray]:
    """Layers of a random ReLU network, on latents that both networks share."""
    latents = np.random.default_rng(0).normal(size=(config.examples, config.units))
    rng = np.random.default_rng(seed)
    x, out = latents.astype(np.float32), {}
    for index in range(config.layers):
        weights = rng.normal(size=(x.shape[1], config.units)) * (2 / x.shape[1]) ** 0.5
        linear = x @ weights.astype(np.float32)
        x = np.maximum(linear, 0)
        out[f"{index:02d}_fc"] = linear
    return out


def our_map(name: str, a: dict, b: dict) -> tuple[float, list[float]]:
    """Median of three maps after the one that compiles."""
    import jax

    from kd_heuristics import similarity

    a, b = jax.device_put((a, b))
    seconds = []
    for _ in range(4):
        start = time.perf_counter()
        value = np.asarray(similarity.matrix(a, b, name))
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:]), np.diagonal(value)[:3].tolist()


def pair_by_pair(
    rival: str, name: str, pairs: int, a: dict, b: dict
) -> tuple[float, list[float]]:
    """Seconds of the whole map, from some of its pairs, after one for warming up."""
    function = {"pairwise": PAIRWISE[name]}.get(rival, zoo_cca)
    a, b = list(a.values()), list(b.values())
    function(a[0], b[0])
    seconds, values = [], []
    for index in range(min(pairs, len(a))):
        start = time.perf_counter()
        values.append(float(function(a[index], b[index])))
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds) * len(a) * len(b), values[:3]


def pairwise_correlations(x: np.ndarray, y: np.ndarray, epsilon: float) -> np.ndarray:
    """Canonical correlations by the steps of google/svcca, everything anew."""
    p = x.shape[1]
    both = np.cov(x, y, rowvar=False)
    xx, xy, yy = both[:p, :p], both[:p, p:], both[p:, p:]
    top_x, top_y = np.abs(xx).max(), np.abs(yy).max()
    xx, yy, xy = xx / top_x, yy / top_y, xy / np.sqrt(top_x * top_y)
    left_x, left_y = np.diag(xx) >= epsilon, np.diag(yy) >= epsilon
    xx, yy = xx[np.ix_(left_x, left_x)], yy[np.ix_(left_y, left_y)]
    roots = []
    for covariance in (xx, yy):
        inverse = np.linalg.pinv(covariance + epsilon * np.eye(len(covariance)))
        values, vectors = np.linalg.eigh(inverse)
        roots.append((vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T)
    product = roots[0] @ xy[np.ix_(left_x, left_y)] @ roots[1]
    return np.abs(np.linalg.svd(product)[1])


def pairwise_cca(x: np.ndarray, y: np.ndarray) -> float:
    """Mean over all correlations."""
    return pairwise_correlations(x, y, 0.0).mean()


def pairwise_google(x: np.ndarray, y: np.ndarray) -> float:
    """Mean over the prefix that holds 98 % of the sum."""
    rho = pairwise_correlations(x, y, 1e-6)
    count = np.searchsorted(np.cumsum(rho), 0.98 * rho.sum()) + 1
    return rho[:count].mean()


def pairwise_svcca(x: np.ndarray, y: np.ndarray) -> float:
    """SVD of both layers down to 99 % of the variance, then CCA."""
    reduced = []
    for layer in (x, y):
        u, s, _ = np.linalg.svd(layer - layer.mean(0), full_matrices=False)
        kept = np.searchsorted(np.cumsum(s**2), 0.99 * np.sum(s**2)) + 1
        reduced.append(u[:, :kept] * s[:kept])
    return pairwise_correlations(*reduced, 0.0).mean()


def zoo_cca(x: np.ndarray, y: np.ndarray) -> float:
    """cca-zoo: all components, mean correlation of the variates."""
    from cca_zoo.linear import CCA

    model = CCA(n_components=min(x.shape[1], y.shape[1]))
    a, b = model.fit_transform([x, y])
    a, b = a - a.mean(0), b - b.mean(0)
    norms = np.linalg.norm(a, axis=0) * np.linalg.norm(b, axis=0)
    return float(np.mean(np.sum(a * b, axis=0) / norms))


PAIRWISE = {
    "cca": pairwise_cca,
    "google_cca": pairwise_google,
    "svcca": pairwise_svcca,
}


def peak_mib() -> float:
    """Peak resident memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def report(config: Config, results: dict[tuple[str, int], list[dict]]) -> None:
    """Print the table: each rival at its better number of BLAS threads."""
    packages = ("jax", "numpy", "scipy", "cca-zoo")
    versions = [f"{p} {v}" for p in packages if (v := version(p))]
    print(
        f"{config.layers} x {config.layers} map, {config.units} units, "
        f"{config.examples} examples; {os.cpu_count()} x {platform.processor()}, "
        f"Python {platform.python_version()}, {', '.join(versions)}"
    )
    print("measure     who       BLAS threads  seconds  ratio  peak MiB  off by")
    best: dict[str, tuple[float, int]] = {}
    for (worker, threads), runs in results.items():
        seconds = statistics.median(run["seconds"] for run in runs)
        best[worker] = min(best.get(worker, (seconds, threads)), (seconds, threads))
    for worker, (seconds, threads) in best.items():
        rival, name = worker.split(":")
        runs = results[worker, threads]
        ratio = seconds / best[f"ours:{name}"][0]
        memory = statistics.median(run["mib"] for run in runs)
        exact = results[f"pairwise:{name}", best[f"pairwise:{name}"][1]][0]["values"]
        off = max(abs(p - q) for p, q in zip(runs[0]["values"], exact, strict=False))
        print(
            f"{name:<11} {rival:<9} {threads:>12} {seconds:>8.2f} {ratio:>6.1f}"
            f" {memory:>9.0f}  {off:.0e}"
        )


def version(package: str) -> str | None:
    """Installed version, None where it is missing."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    main(tyro.cli(Config))
