"""Where metrics go beside metrics.jsonl: TensorBoard, Weights & Biases; off by default.

A sink is `(stage, step, values) -> None`, called with every line of a `MetricsFile`:

    board = training.sinks.tensorboard("run/tensorboard")
    metrics = training.MetricsFile("run/metrics.jsonl", sinks=[board])

For the studies, by a variable of the environment:

    KD_HEURISTICS_SINKS=tensorboard python -m experiments.sgdr
    KD_HEURISTICS_SINKS=tensorboard,wandb python -m experiments.sgdr

A run that was killed repeats the steps since its last checkpoint when it is resumed.
metrics.jsonl forgets the first time; a sink has been told already and is told again.
"""

import atexit
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from kd_heuristics import files, nearest

Sink = Callable[[str, int, Mapping[str, float]], None]

VARIABLE = "KD_HEURISTICS_SINKS"


def tensorboard(directory: str | Path) -> Sink:
    """Scalars "stage/name" as event files, for `tensorboard --logdir directory`.

    Args:
      directory: of the event files; made with the first line.

    Raises:
      ValueError: the package tensorboardX is missing.
    """
    try:
        import tensorboardX
    except ImportError as error:
        raise ValueError(_missing("tensorboardX", "tensorboard")) from error
    # A thread writes; without this it drops the last lines when the process ends.
    writer = tensorboardX.SummaryWriter(str(files.local(directory)), flush_secs=2)
    atexit.register(writer.close)

    def sink(stage, step, values):
        for name, value in values.items():
            writer.add_scalar(f"{stage}/{name}", value, step)

    return sink


def wandb(directory: str | Path) -> Sink:
    """Metrics "stage/name" against "stage/step" in a new run of Weights & Biases.

    The project and all else are set by its own variables (WANDB_PROJECT, WANDB_MODE).
    The run ends with the process.

    Args:
      directory: where its files go; also the name of the run.

    Raises:
      ValueError: the package wandb is missing.
    """
    try:
        import wandb as package
    except ImportError as error:
        raise ValueError(_missing("wandb", "wandb")) from error
    directory = files.local(directory)
    directory.mkdir(parents=True, exist_ok=True)
    # By default init gives the run that is open, another study's of this process.
    name = directory.parent.name
    run = package.init(dir=str(directory), name=name, reinit="create_new")
    known = set()

    def sink(stage, step, values):
        if stage not in known:
            # Several stages of a study count their own steps.
            run.define_metric(f"{stage}/*", step_metric=f"{stage}/step")
            known.add(stage)
        line = {f"{stage}/{k}": v for k, v in values.items() if math.isfinite(v)}
        run.log(line | {f"{stage}/step": step})

    return sink


_SINKS: dict[str, Callable[[Path], Sink]] = {"tensorboard": tensorboard, "wandb": wandb}


def from_environment(directory: files.AnyPath) -> list[Sink]:
    """The sinks that KD_HEURISTICS_SINKS names; [] where it is not set.

    Args:
      directory: of the run; each sink has a folder of its own in it.

    Raises:
      ValueError: an unknown name, a missing package, or a folder on an object store.
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
    return f'the package {package} is missing: pip install "kd_heuristics[{extra}]"'
