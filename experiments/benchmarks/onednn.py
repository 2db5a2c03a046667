"""Inference with oneDNN's convolutions against XLA's, on a CPU.

    python -m experiments.benchmarks.onednn [--repeats 7] [--batch 64]

About a minute on 2 cores; RESULTS.md in this folder has the last table. Both programs
are compiled in one process and take turns; ratios are of medians, above 1 where oneDNN
is faster. CPU seconds depend less on other load than seconds do. `train_step` compares
with PyTorch.
"""

import dataclasses
import statistics
import time

import jax
import numpy as np

from experiments.benchmarks.train_step import CASES
from kd_heuristics import models
from kd_heuristics.runtime import onednn
from kd_heuristics.runtime.compiled import jit

# Beside those of `train_step`, the network of the studies on embedded data.
STUDIED = {"vgg11_bn_eighth": ("vgg11_bn", {"width": 0.125, "classifier_width": 256})}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Size and repeats.

    Attributes:
      batch: images of a forward pass, 32x32.
      repeats: turns of each program, after one that compiles.
    """

    batch: int = 64
    repeats: int = 7


def main(config: Config) -> None:
    """Prints the table."""
    if onednn.setting() == "off":
        raise SystemExit(f"oneDNN is off here; see {onednn.VARIABLE} in hardware.md")
    print(f"{config}, jax {jax.__version__}\n")
    print("| network | XLA: ms | oneDNN: ms | ratio | ratio of CPU time | apart |")
    print("|---|---|---|---|---|---|")
    for label, (name, options) in (CASES | STUDIED).items():
        print(row(config, label, models.create(name, 10, **options)), flush=True)


def row(config: Config, label: str, network: models.Network) -> str:
    """Returns a network's row: medians, ratios and the largest relative difference."""
    images = jax.random.normal(jax.random.key(0), (config.batch, 32, 32, 3))
    variables = network.init(jax.random.key(1), images[:1])
    programs = {
        setting: compiled(network, setting, variables, images)
        for setting in ("off", "inference")
    }
    outputs = {
        name: np.asarray(run(variables, images)) for name, run in programs.items()
    }
    wall: dict[str, list[float]] = {name: [] for name in programs}
    cpu: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(config.repeats):
        for name, run in programs.items():
            start, spent = time.perf_counter(), time.process_time()
            jax.block_until_ready(run(variables, images))
            wall[name].append(time.perf_counter() - start)
            cpu[name].append(time.process_time() - spent)
    xla, dnn = (1000 * statistics.median(wall[name]) for name in programs)
    first, second = (statistics.median(cpu[name]) for name in programs)
    scale = np.abs(outputs["off"]).max()
    apart = np.abs(outputs["off"] - outputs["inference"]).max() / scale
    return (
        f"| {label} | {xla:.1f} | {dnn:.1f} | {xla / dnn:.2f} | {first / second:.2f} | "
        f"{apart:.0e} |"
    )


def compiled(network: models.Network, setting: str, variables, images):
    """Returns the compiled forward pass of a network under a setting."""
    chosen = onednn.setting
    jax.clear_caches()  # lowered convolutions remember the setting
    onednn.setting = lambda: setting
    try:
        return jit(network.apply).lower(variables, images).compile()
    finally:
        onednn.setting = chosen


if __name__ == "__main__":
    import tyro  # here, because tests import this without it

    main(tyro.cli(Config))
