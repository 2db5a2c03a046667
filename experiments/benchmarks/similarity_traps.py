"""Figures of the guide "Is my SVCCA trustworthy?", one for each trap.

    python -m experiments.benchmarks.similarity_traps --out docs/guides

The layers are synthetic, so that their relation is known. Takes two minutes on 2 cores.
"""

import dataclasses
import warnings
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from matplotlib.axes import Axes

from kd_heuristics import similarity
from kd_heuristics.plots import style


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Where the figures go."""

    out: Path = Path("docs/guides")


KEY = jax.random.key(0)
PERMUTATIONS = 39


def noise(seed: int, examples: int, units: int) -> np.ndarray:
    """Makes a layer that is unrelated to one of another seed."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((examples, units)).astype(np.float32)


def width(axes: Axes) -> None:
    """Independent noise of growing width: raw values rise, calibrated ones do not."""
    units = [8, 16, 32, 64, 128, 256]
    for color, measure in enumerate(("cka", "svcca", "procrustes")):
        pairs = [(noise(1, 500, p), noise(2, 500, p)) for p in units]
        found = [
            similarity.permutation_test(*pair, measure, PERMUTATIONS, key=KEY)
            for pair in pairs
        ]
        line = {"color": f"C{color}", "marker": "o", "ms": 3}
        axes.plot(units, [test.value for test in found], label=measure, **line)
        axes.plot(units, [test.calibrated for test in found], ls=":", **line)
    axes.set(xscale="log", xlabel="units of both layers, 500 examples")
    axes.set(title="Independent noise (dotted: calibrated)")


def examples(axes: Axes) -> None:
    """The same two unrelated layers on more and more examples."""
    counts = [40, 80, 160, 320, 640, 1280, 2560]
    x, y = noise(1, counts[-1], 64), noise(2, counts[-1], 64)
    for measure in ("svcca", "cka", "debiased_cka"):
        values = [value(x[:n], y[:n], measure) for n in counts]
        axes.plot(counts, values, marker="o", ms=3, label=measure)
    axes.axvline(128, color="0.6", lw=0.8)
    axes.set(xscale="log", xlabel="examples (line: the units of both layers)")
    axes.set(title="64 units of noise against 64")


def dominance(axes: Axes) -> None:
    """One shared direction of growing variance beside 63 unrelated ones."""
    sizes = [1, 3, 10, 30, 100]
    shared = noise(3, 1000, 1)
    for measure in ("cka", "svcca", "cca", "knn"):
        values = []
        for size in sizes:
            x, y = noise(1, 1000, 64), noise(2, 1000, 64)
            x[:, :1], y[:, :1] = size * shared, size * shared
            values.append(value(x, y, measure))
        axes.plot(sizes, values, marker="o", ms=3, label=measure)
    axes.set(xscale="log", xlabel="deviation of the one shared unit out of 64")
    axes.set(title="One loud direction")


def weak(axes: Axes) -> None:
    """Shared leading directions beside weaker and weaker noise."""
    sizes = [1, 0.3, 0.1, 0.03, 0.01]
    shared = noise(3, 1000, 16)
    for measure in ("cca", "svcca", "cka", "procrustes"):
        values = [
            value(
                np.hstack([shared, size * noise(1, 1000, 48)]),
                np.hstack([shared, size * noise(2, 1000, 48)]),
                measure,
            )
            for size in sizes
        ]
        axes.plot(sizes, values, marker="o", ms=3, label=measure)
    axes.set(xscale="log", xlabel="deviation of the 48 noise units beside 16 shared")
    axes.set(title="CCA counts what is faint")
    axes.invert_xaxis()


def search(axes: Axes) -> None:
    """The best match among unrelated layers, calibrated for one pair and for all."""
    counts = [1, 2, 4, 8]
    best, single, every = [], [], []
    for count in counts:
        a, b = (
            {str(i): noise(100 * side + i, 100, 16) for i in range(count)}
            for side in (1, 2)
        )
        test = similarity.permutation_test(a, b, "debiased_cka", 199, key=KEY)
        best.append(float(np.max(test.value)))
        every.append(float(np.min(test.p_value)))
        i, j = np.unravel_index(np.argmax(test.value), test.value.shape)
        pair = a[str(i)], b[str(j)]
        alone = similarity.permutation_test(*pair, "debiased_cka", 199, key=KEY)
        single.append(float(alone.p_value))
    pairs = np.square(counts)
    axes.plot(pairs, best, marker="o", ms=3, label="best debiased_cka")
    axes.plot(pairs, single, marker="o", ms=3, label="its p as a single pair")
    axes.plot(pairs, every, marker="o", ms=3, label="its p for the whole map")
    axes.axhline(0.05, color="0.6", lw=0.8)
    axes.set(xscale="log", xlabel="pairs of unrelated layers (the best is shown)")
    axes.set(title="Looking until something matches", ylabel="similarity, p-value")


def positions(axes: Axes) -> None:
    """Smooth maps of unrelated networks, with positions as examples."""
    sides = [1, 2, 4, 8, 16]
    null, truth = [], []
    for side in sides:
        x, y = (
            np.repeat(
                np.repeat(noise(k, 60 * 4, 16).reshape(60, 2, 2, 16), side, 1), side, 2
            )
            for k in (1, 2)
        )
        floor = similarity.noise_floor(60 * (2 * side) ** 2, 16, 16)
        null.append(floor)
        maps = {"x": x}, {"y": y}
        truth.append(float(similarity.matrix(*maps, "cca", "positions")[0, 0]))
    area = [(2 * side) ** 2 for side in sides]
    axes.plot(area, truth, marker="o", ms=3, label="cca of unrelated maps")
    axes.plot(area, null, marker="o", ms=3, label="floor for independent rows")
    axes.set(xscale="log", xlabel="positions of a map, of which 4 differ")
    axes.set(title="Neighbouring positions are not new examples")


def value(x: np.ndarray, y: np.ndarray, measure: str) -> float:
    """Computes the measure of two layers."""
    return float(similarity.matrix({"x": x}, {"y": y}, measure)[0, 0])


TRAPS: dict[str, Callable[[Axes], None]] = {
    "width": width,
    "examples": examples,
    "dominance": dominance,
    "weak": weak,
    "search": search,
    "positions": positions,
}


def main(config: Config) -> None:
    """Draws all figures."""
    warnings.simplefilter("ignore", similarity.SaturationWarning)
    with style.context():
        for name, draw in TRAPS.items():
            figure, axes = style.panels(1, 1, width=4.2, height=3.0)
            axes[0, 0].set(ylabel="similarity")
            draw(axes[0, 0])
            axes[0, 0].legend(fontsize=7)
            figure.savefig(config.out / f"trap_{name}.png", dpi=110)


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Config))
