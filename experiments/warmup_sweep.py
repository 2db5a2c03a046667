"""Which batch and rate are unstable without warmup, and train with it?

Command: python -m experiments.warmup_sweep --batch-sizes 200 400 --rates 0.1 0.2 0.4

How the small presets of `experiments/warmup.py` were found: trains three of its arms on
a grid, on validation images and a seed that no result reports, and prints accuracies.
"""

import dataclasses
import tempfile

import rich.console
import rich.table
import tyro

from experiments import launch, warmup
from experiments.presets.warmup import PRESETS
from kd_heuristics import runs

ARMS = ("large", "warmup", "freeze_fc")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments:
    """Trains with and without warmup on a grid of batch sizes and rates."""

    batch_sizes: tuple[int, ...] = (200, 400)
    rates: tuple[float, ...] = (0.1, 0.2, 0.4)
    preset: str = "digits"
    """whose other fields are used"""
    seed: int = 100
    """reported runs count theirs from 0"""
    epochs: int | None = None
    """None: the preset's"""


def run(arguments: Arguments) -> rich.table.Table:
    """The accuracies (%) after the warmup and at the end, a row an arm and setting."""
    table = rich.table.Table("batch", "rate", "arm", "after warmup", "end")
    base = PRESETS[arguments.preset]
    for batch_size in arguments.batch_sizes:
        for rate in arguments.rates:
            config = dataclasses.replace(
                base,
                seeds=1,
                first_seed=arguments.seed,
                test_split="validation",
                batch_size=batch_size,
                rate=rate,
                arms=ARMS,
                epochs=arguments.epochs or base.epochs,
            )
            for arm, accuracies in accuracy(config).items():
                early, last = accuracies[config.warmup_epochs - 1], accuracies[-1]
                table.add_row(
                    str(batch_size),
                    str(rate),
                    arm,
                    f"{100 * early:.1f}",
                    f"{100 * last:.1f}",
                )
    return table


def accuracy(config) -> dict[str, list[float]]:
    """Accuracy after each epoch, by arm; nothing is kept on disk."""
    with (
        tempfile.TemporaryDirectory() as path,
        launch.progress_bar("warmup sweep") as progress,
    ):
        folder = runs.RunFolder(path)
        lab = warmup.Laboratory(config, folder, progress)
        arrays = lab.train("large")
    return {arm: arrays[f"{arm}/test_accuracy"][0].tolist() for arm in config.arms}


def main() -> None:
    """The command line."""
    arguments = tyro.cli(Arguments, prog="python -m experiments.warmup_sweep")
    rich.console.Console().print(run(arguments))


if __name__ == "__main__":
    main()
