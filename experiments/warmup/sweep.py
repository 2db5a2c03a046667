"""Which batch and rate are unstable without warmup, and train with it?

Command: python -m experiments.warmup.sweep --batch-sizes 200 400 --rates 0.1 0.2 0.4
         python -m experiments.warmup.sweep --group small --batch-sizes 40 --rates 0.02

Trains some arms on a grid, with seeds that no result reports, and prints accuracies on
validation images. The small presets of the study were chosen this way.
"""

import dataclasses
import tempfile
from typing import Any, Literal

import numpy as np
import rich.console
import rich.table
import tyro

from experiments.common import progress
from experiments.common.study import StudyRun
from experiments.warmup import study as warmup
from experiments.warmup.config import PRESETS
from kd_heuristics import runs

ARMS = {"large": ("large", "warmup", "freeze_fc"), "small": ("small",)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments:
    """Trains with and without warmup on a grid of batch sizes and rates."""

    group: Literal["large", "small"] = "large"
    """large batches with and without warmup, or small batches"""
    batch_sizes: tuple[int, ...] = (200, 400)
    rates: tuple[float, ...] = (0.1, 0.2, 0.4)
    preset: str = "digits"
    """preset that sets all other fields"""
    first_seed: int = 100
    """first seed; reported runs start at 0"""
    seeds: int = 1
    epochs: int | None = None
    """`None` uses the preset's"""


def run(arguments: Arguments) -> rich.table.Table:
    """Accuracies (%) of each seed after the warmup and at the end."""
    table = rich.table.Table("batch", "rate", "arm", "after warmup", "end")
    base = PRESETS[arguments.preset]
    prefix = "small_" if arguments.group == "small" else ""
    for batch_size in arguments.batch_sizes:
        for rate in arguments.rates:
            grid: dict[str, Any] = {
                f"{prefix}batch_size": batch_size,
                f"{prefix}rate": rate,
            }
            config = dataclasses.replace(
                base,
                seeds=arguments.seeds,
                first_seed=arguments.first_seed,
                test_split="validation",
                arms=ARMS[arguments.group],
                epochs=arguments.epochs or base.epochs,
                **grid,
            ).resolved
            for arm, accuracies in accuracy(config, arguments.group).items():
                early = accuracies[:, config.warmup_epochs - 1]
                table.add_row(
                    str(batch_size),
                    str(rate),
                    arm,
                    words(early),
                    words(accuracies[:, -1]),
                )
    return table


def words(accuracies: np.ndarray) -> str:
    """Accuracies in per cent.

    >>> words(np.array([0.25, 0.5]))
    '25.0 50.0'
    """
    return " ".join(f"{100 * value:.1f}" for value in accuracies)


def accuracy(config, group: str) -> dict[str, np.ndarray]:
    """Accuracy [seeds, epochs] by arm; the run folder is deleted."""
    with (
        tempfile.TemporaryDirectory() as path,
        progress.shown("warmup sweep") as bar,
    ):
        folder = runs.RunFolder(path)
        run = StudyRun(config, folder, bar, by=warmup.train)
        tasks = warmup.make_tasks(config)
        bar.start(warmup.total_steps(config, tasks["large"]))
        arrays = warmup.train(run, tasks, group)
    return {arm: arrays[f"{arm}/test_accuracy"] for arm in config.arms}


def main() -> None:
    """The command line."""
    arguments = tyro.cli(Arguments, prog="python -m experiments.warmup.sweep")
    rich.console.Console().print(run(arguments))


if __name__ == "__main__":
    main()
