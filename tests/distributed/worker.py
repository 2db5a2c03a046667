"""A program of the tests: all recipes in one process, or in one of several.

    python -m tests.distributed.worker FOLDER 1,8                # meshes of so many
    python -m tests.distributed.worker FOLDER HOST:PORT,COUNT,INDEX

Process 0 writes FOLDER/NAME.npz.
"""

import os
import shutil
import signal
import sys
import threading
import time
from pathlib import Path

import jax
import numpy as np

from kd_heuristics import checkpoints, runs, training
from kd_heuristics.runtime import hosts, interrupts, parallel

jax.config.update("jax_numpy_rank_promotion", "raise")
if __name__ == "__main__" and ":" in sys.argv[2]:
    hosts.start(sys.argv[2])

from tests.distributed import recipes  # noqa: E402 - its arrays use the devices


def save(folder: Path, name: str, found: dict) -> None:
    """The arrays, written by process 0."""
    runs.RunFolder(folder).save_arrays(f"{name}.npz", found)


def one_process(folder: Path, sizes: list[int]) -> None:
    """Every recipe on meshes of so many devices."""
    for size in sizes:
        save(folder, f"mesh{size}", recipes.everything(parallel.mesh(size)))


def of_all_devices(folder: Path) -> None:
    """A checkpoint and a population of all devices, against those of one."""
    largest = parallel.mesh()
    kept = {"directory": folder / "saved", "keep_steps": [recipes.LOG]}
    recipes.supervised(largest, **kept)
    members, values = recipes.population(parallel.mesh(1), "examples")
    save(folder, "members", recipes.flat((members, values)))
    members, values = recipes.population(largest, "members")
    save(folder, "members_spread", recipes.flat((members, values)))
    # The second half again, on one device.
    on_one = folder / "on_one"
    shutil.copytree(folder / "saved", on_one)
    checkpoints.remove(on_one, recipes.STEPS)
    state = recipes.supervised(parallel.mesh(1), directory=on_one)
    save(folder, "resumed", recipes.flat(state))


def one_of_several(folder: Path) -> None:
    """The same on the devices of all processes, and what they agree on."""
    mesh = parallel.mesh()
    save(folder, "pair", recipes.everything(mesh))
    members, values = recipes.population(mesh, "members")
    save(folder, "pair_members", recipes.flat((members, values)))
    state = recipes.supervised(mesh, directory=folder / "on_pair")
    save(folder, "pair_resumed", recipes.flat(state))
    say("stopped", interrupted(mesh, folder / "interrupted"))
    metrics = training.MetricsFile(folder / "metrics.jsonl")
    kept = {"directory": folder / "interrupted", "metrics": metrics}
    save(folder, "pair_gone_on", recipes.flat(recipes.supervised(mesh, **kept)))
    say("lines", [line["step"] for line in metrics.read()])
    say("error", raised(hosts.first, refuse))
    say("untold", raised(hosts.first, threading.Lock))
    say("nonfinite", raised(diverge, mesh))
    say("mesh", raised(parallel.mesh, 4))


def interrupted(mesh, directory: Path):
    """SIGTERM to process 1 within the first interval; where and how all stop."""

    def progress(steps, loss):
        if hosts.index() == 1 and not interrupts.received():
            os.kill(os.getpid(), signal.SIGTERM)
            while not interrupts.received():  # a thread notes it
                time.sleep(0.01)

    metrics = training.MetricsFile(directory.with_name("metrics.jsonl"))
    try:
        with interrupts.handled():
            recipes.supervised(
                mesh,
                directory=directory,
                metrics=metrics,
                steps_per_call=3,
                progress=progress,
            )
    except interrupts.Interrupted as stop:
        return stop.status, checkpoints.steps(directory)
    return None


def refuse():
    raise runs.RunError(f"process {jax.process_index()} cannot read")


def diverge(mesh):
    training.fit(
        lambda w, stats, batch, key: (w / 0.0, (stats, {})),
        np.float32(1),
        {},
        training.sgd(0.02, 0.9),
        recipes.BATCHES,
        num_steps=2,
        mesh=mesh,
    )


def raised(function, *arguments):
    """The error of a call, in words."""
    try:
        function(*arguments)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def say(name, value):
    print(f"{name}: {value}", flush=True)


if __name__ == "__main__":
    target, what = Path(sys.argv[1]), sys.argv[2]
    os.environ["TFDS_DATA_DIR"] = str(target / "tfds")
    if ":" in what:
        one_of_several(target)
    else:
        counts = [int(size) for size in what.split(",")]
        one_process(target, counts)
        if counts[-1] == len(jax.devices()):
            of_all_devices(target)
