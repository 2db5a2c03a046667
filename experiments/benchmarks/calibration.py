"""Level, power and time of permutation tests.

    python -m experiments.benchmarks.calibration
    python -m experiments.benchmarks.calibration --parts alarms --measures cca svcca

False alarms: share of draws of independent noise with p <= .05, with the standard error
at 5 % (the aim with 1,000 draws is 3.5 to 6.5 %). Found: share of draws with p <= .05
in which two layers share 10 directions. Seconds of 200 permutations, after compiling: a
pair of 1,000 x 256, and a map of 16 x 16 such layers for measures without a
decomposition per permutation. The other measures get fewer draws of noise. Each line is
printed as soon as it is known, and a part or a measure can be run by itself.
"""

import dataclasses
import sys
import time
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from kd_heuristics import similarity
from kd_heuristics.similarity.measure import NAMES

# Measures with a decomposition for each permutation.
DECOMPOSED = ("cca", "svcca", "pwcca", "google_cca", "procrustes")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Numbers of draws, and what to time."""

    examples: int = 500
    units: int = 64
    draws: int = 1000  # of noise
    draws_decomposed: int = 200  # of noise, for measures that decompose
    planted: int = 100  # draws with a signal
    signal: float = 0.5  # its deviation per unit; the noise has deviation 1
    permutations: int = 200
    measures: tuple[str, ...] = NAMES
    parts: tuple[Literal["alarms", "found", "times"], ...] = (
        "alarms",
        "found",
        "times",
    )
    layers: int = 16


def layers(
    key: jax.Array, config: Config, signal: float
) -> tuple[jax.Array, jax.Array]:
    """Draws two layers of noise; with a signal, they share 10 directions."""
    latent, *keys = jax.random.split(key, 5)
    shared = jax.random.normal(latent, (config.examples, 10))
    size = config.examples, config.units

    def layer(noise, mix):
        # Variance 1 per unit.
        spread = jax.random.normal(mix, (10, config.units)) / 10**0.5
        return jax.random.normal(noise, size) + signal * shared @ spread

    return layer(keys[0], keys[2]), layer(keys[1], keys[3])


def rejected(config: Config, measure: str, count: int, signal: float) -> float:
    """Returns the share of draws with p <= .05."""
    keys = jax.random.split(jax.random.key(0), count)
    p = []
    for key in keys:
        x, y = layers(key, config, signal)
        test = similarity.permutation_test(x, y, measure, config.permutations, key=key)
        p.append(float(test.p_value))
    # The smallest p of 19 permutations is 0.05, larger in float32 than in float64.
    return float(np.mean(np.array(p) <= 0.05 + 1e-6))


def seconds(config: Config, measure: str, count: int) -> float:
    """Times one test of count x count layers of 1,000 x 256, after a first."""
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


def row(config: Config, measure: str) -> list[str]:
    """Returns the cells of a row; those that `parts` omits are empty."""
    decomposed = measure in DECOMPOSED
    cells = [measure, "", "", "", ""]
    if "alarms" in config.parts:
        draws = config.draws_decomposed if decomposed else config.draws
        share = rejected(config, measure, draws, 0.0)
        error = (0.05 * 0.95 / draws) ** 0.5
        cells[1] = f"{share:.1%} ± {error:.1%} of {draws:,}"
    if "found" in config.parts:
        share = rejected(config, measure, config.planted, config.signal)
        cells[2] = f"{share:.0%} of {config.planted:,}"
    if "times" in config.parts:
        cells[3] = f"{seconds(config, measure, 1):.2f}"
        cells[4] = (
            "–" if decomposed else f"{seconds(config, measure, config.layers):.1f}"
        )
    return cells


def main(config: Config) -> None:
    """Prints the table, a line for each measure."""
    print(f"{config}\n\n| measure | false alarms | found | a pair (s) | a map (s) |")
    print("|---|---|---|---|---|")
    for measure in config.measures:
        print(f"| {' | '.join(row(config, measure))} |")
        sys.stdout.flush()


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Config))
