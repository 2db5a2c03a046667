"""The SGDR study's whole work by this project, and by hand in PyTorch.

    python -m experiments.benchmarks.study [--preset demo] [--repeats 3]

Needs the extra `[bench]` (PyTorch). Some minutes a repeat on 2 cores; RESULTS.md in
this folder has the last table.

    ours      `python -m experiments.sgdr`, a new process and run folder each turn: with
              imports, compilation, checkpoints and figures
    PyTorch   `study_torch`: the same images, network, steps, rates, pairs, points and
              maps, written as one would; without its imports and without files

Both take turns, so that a slow minute of the machine slows both; ratios are of medians,
above 1 where ours is faster. Ours computes five measures of similarity and a noise
floor, PyTorch one measure.
"""

import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common import fields, paths, task
from experiments.sgdr.config import ARMS, PRESETS, Config
from experiments.sgdr.study import learning_rates


@dataclasses.dataclass(frozen=True, kw_only=True)
class Benchmark:
    """Preset and repeats.

    Attributes:
      preset: of the SGDR study, with one seed, without augmentation.
      repeats: turns of each contender.
    """

    preset: str = "demo"
    repeats: int = 3


def main(benchmark: Benchmark) -> None:
    """Runs both in turn and prints the table, also of what an interrupt leaves."""
    config = fields.resolved(dataclasses.replace(PRESETS[benchmark.preset], seeds=1))
    turns: dict[str, list[dict[str, float]]] = {"ours": [], "PyTorch": []}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder) / "work.npz"
        np.savez(work, **of_study(config))
        try:
            for turn in range(benchmark.repeats):
                run = Path(folder) / f"run{turn}"
                turns["ours"].append(ours(benchmark.preset, run))
                turns["PyTorch"].append(by_hand(work, run / "torch.json"))
        finally:
            print(f"{benchmark}, {os.cpu_count()} cores, jax {jax.__version__}\n")
            print(table(turns))


def of_study(config: Config) -> dict[str, Any]:
    """Returns the arrays and settings of the study's work, for `study_torch`."""
    if config.model != "vgg11_bn" or config.augmented or config.dropout_rate > 0:
        raise SystemExit("study_torch has VGG-11 with batch norm alone; try demo")
    its = task.make(config)
    train = its.train.images, its.train.labels
    arrays: dict[str, Any] = {}
    for name, (images, labels) in (("train", train), ("test", _whole(its.test))):
        inputs = its.classifier.inputs(jnp.asarray(images))
        arrays[f"{name}_images"] = np.asarray(inputs)
        arrays[f"{name}_labels"] = np.asarray(labels)
    for arm, rates in learning_rates(config, its).items():
        arrays[f"rates/{arm}"] = np.asarray(rates)
    pairs = {arm: config.pairs(arm) for arm in ARMS}
    epochs = {epoch for some in pairs.values() for pair in some for epoch in pair}
    settings = {
        "width": config.width,
        "classifier_width": config.classifier_width,
        "momentum": config.momentum,
        "weight_decay": config.weight_decay,
        "clip_norm": config.clip_norm,
        "batch_size": config.batch_size,
        "eval_batch_size": config.eval_batch_size,
        "eval_examples": config.eval_examples,
        "stats_examples": config.stats_examples,
        "map_examples": config.map_examples,
        "epochs": config.epochs,
        "chain": dataclasses.asdict(config.chain),
        "t": paths.paper_t(config.intervals).tolist(),
        "pairs": pairs,
        "joined": {arm: config.joined(arm) for arm in ARMS},
        "planes": config.planes,
        "plane_grid": config.plane_grid,
        "map_pairs": config.map_pairs,
        "kept": sorted(epochs | {epoch for pair in config.map_pairs for epoch in pair}),
    }
    return arrays | {"settings": np.array(json.dumps(settings))}


def _whole(batches) -> tuple[np.ndarray, np.ndarray]:
    """Returns images and labels of evaluation batches, without their padding."""
    real = np.asarray(batches["mask"]).reshape(-1).astype(bool)
    images, labels = (np.asarray(batches[name]) for name in ("images", "labels"))
    return images.reshape(-1, *images.shape[2:])[real], labels.reshape(-1)[real]


def ours(preset: str, run: Path) -> dict[str, float]:
    """Runs the study in a new process; returns its wall-clock and CPU seconds."""
    command = [sys.executable, "-m", "experiments.sgdr", "--preset", preset]
    return _timed([*command, "--seeds", "1", "--workdir", str(run)])


def by_hand(work: Path, out: Path) -> dict[str, float]:
    """Runs `study_torch` in a new process; returns the seconds of its parts."""
    module = "experiments.benchmarks.study_torch"
    _timed([sys.executable, "-m", module, str(work), str(out)])
    found = json.loads(out.read_text())
    parts = found["seconds"]
    return {"all": sum(parts.values()), "CPU": found["cpu_seconds"], **parts}


def _timed(command: list[str]) -> dict[str, float]:
    before, start = os.times(), time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    seconds, after = time.perf_counter() - start, os.times()
    cpu = after.children_user + after.children_system
    return {
        "all": seconds,
        "CPU": cpu - before.children_user - before.children_system,
    }


def table(turns: dict[str, list[dict[str, float]]]) -> str:
    """Returns the table for RESULTS.md."""
    lines = ["| contender | part | seconds | against ours |", "|---|---|---|---|"]
    for name, own in turns.items():
        for part in own[0] if own else ():
            seconds = [turn[part] for turn in own]
            ratio = "–"
            if name != "ours" and part in turns["ours"][0]:
                base = statistics.median(turn[part] for turn in turns["ours"])
                ratio = f"{statistics.median(seconds) / base:.2f}"
            lines.append(
                f"| {name} | {part} | {statistics.median(seconds):.1f} "
                f"({min(seconds):.1f} to {max(seconds):.1f}) | {ratio} |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    import tyro  # here, because tests import this without it

    main(tyro.cli(Benchmark))
