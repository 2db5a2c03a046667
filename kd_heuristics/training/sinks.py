"""Sinks for metrics beside metrics.jsonl: TensorBoard, Weights & Biases; default off.

A sink is `(stage, step, values) -> None`, called with every line of a `MetricsFile`:

    board = training.sinks.tensorboard("run/tensorboard")
    metrics = training.MetricsFile("run/metrics.jsonl", sinks=[board])

Studies take their sinks from an environment variable:

    KD_HEURISTICS_SINKS=tensorboard python -m experiments.sgdr
    KD_HEURISTICS_SINKS=tensorboard,wandb python -m experiments.sgdr

A killed run repeats the steps since its last checkpoint when it is resumed.
metrics.jsonl drops the first copy of their lines; a sink receives both.
"""

import atexit
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from kd_heuristics.runtime import files, nearest

Sink = Callable[[str, int, Mapping[str, float]], None]

VARIABLE = "KD_HEURISTICS_SINKS"


def tensorboard(directory: str | Path) -> Sink:
    """Write scalars "stage/name" as event files for `tensorboard --logdir directory`.

    Args:
      directory: folder of the event files; created with the first line.

    Raises:
      ValueError: the package tensorboardX is missing.
    """
    try:
        import tensorboardX
    except ImportError as error:
        raise ValueError(_missing("tensorboardX", "tensorboard")) from error
    # A thread writes the events; unless closed, it drops the last lines at exit.
    writer = tensorboardX.SummaryWriter(str(files.local(directory)), flush_secs=2)
    atexit.register(writer.close)

    def sink(stage, step, values):
        for name, value in values.items():
            writer.add_scalar(f"{stage}/{name}", value, step)

    return sink


def wandb(directory: str | Path) -> Sink:
    """Log metrics "stage/name" against "stage/step" to a new Weights & Biases run.

    The package's own variables (WANDB_PROJECT, WANDB_MODE) set the project and all
    other options. The run ends with the process.

    Args:
      directory: folder of the run's files; its parent's name is the name of the run.

    Raises:
      ValueError: the package wandb is missing.
    """
    try:
        import wandb as package
    except ImportError as error:
        raise ValueError(_missing("wandb", "wandb")) from error
    directory = files.local(directory)
    directory.mkdir(parents=True, exist_ok=True)
    # By default init returns the open run, which may be another study's.
    name = directory.parent.name
    run = package.init(dir=str(directory), name=name, reinit="create_new")
    known = set()

    def sink(stage, step, values):
        if stage not in known:
            # Each stage of a study counts its own steps.
            run.define_metric(f"{stage}/*", step_metric=f"{stage}/step")
            known.add(stage)
        line = {f"{stage}/{k}": v for k, v in values.items() if math.isfinite(v)}
        run.log(line | {f"{stage}/step": step})

    return sink


_SINKS: dict[str, Callable[[Path], Sink]] = {"tensorboard": tensorboard, "wandb": wandb}


def from_environment(directory: files.AnyPath) -> list[Sink]:
    """Returns the sinks that KD_HEURISTICS_SINKS names; [] if it is not set.

    Args:
      directory: run folder; each sink has its own folder in it.

    Raises:
      ValueError: a name is unknown, a package is missing, or the folder lies on an
        object store.
    """
    names = [name for name in os.environ.get(VARIABLE, "").split(",") if name]
    for name in names:
        nearest.choose(name, _SINKS, f"sink in {VARIABLE}")
    if names and files.is_store(directory):
        raise ValueError(
            f"{VARIABLE} names {names[0]}, which writes to a local folder, not to "
            f"{directory}; unset it, or choose a local --workdir"
        )
    return [_SINKS[name](files.local(directory) / name) for name in names]


def _missing(package: str, extra: str) -> str:
    """Returns the message for a package that is not installed."""
    return f'the package {package} is missing: pip install "kd_heuristics[{extra}]"'
