"""Does a permutation test keep its level, find what is there, and how long it takes.

    python -m experiments.benchmarks.calibration

False alarms: shares of draws of independent noise with p <= .05 (3.5 to 6.5 % is the
aim). Found: shares of draws in which two layers share 10 directions. Seconds of 200
permutations: a pair of 1,000 x 256, and a map of 16 x 16 such layers for measures that
need no decomposition a permutation; compiled before. About 10 minutes on 2 cores.
"""

import dataclasses
import time

import jax
import jax.numpy as jnp
import numpy as np

from kd_heuristics import similarity


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What is drawn, and what is timed."""

    examples: int = 500
    units: int = 64
    draws: int = 1000  # of noise
    planted: int = 100  # draws with a signal
    signal: float = 0.5  # its deviation a unit, beside noise of deviation 1
    permutations: int = 200
    measures: tuple[str, ...] = ("cka", "debiased_cka", "knn", "procrustes")
    timed: tuple[str, ...] = ("cka", "debiased_cka", "knn", "rsa", "procrustes", "cca")
    layers: int = 16


def layers(
    key: jax.Array, config: Config, signal: float
) -> tuple[jax.Array, jax.Array]:
    """Two layers of noise; with a signal, 10 directions are the same in both."""
    latent, *keys = jax.random.split(key, 5)
    shared = jax.random.normal(latent, (config.examples, 10))
    size = config.examples, config.units

    def layer(noise, mix):
        # Of variance 1 a unit.
        spread = jax.random.normal(mix, (10, config.units)) / 10**0.5
        return jax.random.normal(noise, size) + signal * shared @ spread

    return layer(keys[0], keys[2]), layer(keys[1], keys[3])


def rejected(config: Config, measure: str, count: int, signal: float) -> float:
    """Share of the draws with p <= .05."""
    keys = jax.random.split(jax.random.key(0), count)
    p = []
    for key in keys:
        x, y = layers(key, config, signal)
        test = similarity.permutation_test(x, y, measure, config.permutations, key=key)
        p.append(float(test.p_value))
    return float(np.mean(np.array(p) <= 0.05))


def seconds(config: Config, measure: str, count: int) -> float:
    """Of one test of count x count layers of 1,000 x 256, after a first."""
    rng = np.random.default_rng(0)
    a, b = (
        {
            f"{i:02d}": jnp.asarray(rng.standard_normal((1000, 256)), jnp.float32)
            for i in range(count)
        }
        for _ in range(2)
    )
    for _ in range(2):
        start = time.perf_counter()
        test = similarity.permutation_test(
            a, b, measure, config.permutations, key=jax.random.key(1)
        )
        jax.block_until_ready(test)
    return time.perf_counter() - start


def main(config: Config) -> None:
    """Prints both tables."""
    print(f"{config}\n\n| measure | false alarms | found |\n|---|---|---|")
    for measure in config.measures:
        alarms = rejected(config, measure, config.draws, 0.0)
        found = rejected(config, measure, config.planted, config.signal)
        print(f"| {measure} | {alarms:.1%} | {found:.1%} |", flush=True)
    print("\n| measure | a pair (s) | a map (s) |\n|---|---|---|")
    for measure in config.timed:
        pair = seconds(config, measure, 1)
        several = "–"
        if measure not in ("procrustes", "cca", "svcca", "pwcca", "google_cca"):
            several = f"{seconds(config, measure, config.layers):.1f}"
        print(f"| {measure} | {pair:.2f} | {several} |", flush=True)


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Config))
