"""The option --distributed of all studies: a run with several processes."""

import dataclasses
from typing import Any

import jax

HELP = (
    "run with several processes, each started with this command: auto (Slurm, Open "
    "MPI, Kubernetes, TPU) | HOST:PORT,COUNT,INDEX"
)


def on_all_devices(config: Any) -> Any:
    """Returns the config with batches split over the devices of all processes.

    Raises:
      ValueError: they do not divide the batches, or `devices` is another number.
    """
    devices = len(jax.devices())
    if config.devices not in (1, devices):
        raise ValueError(
            f"--distributed takes all {devices} devices of all processes, got devices "
            f"{config.devices}; leave it out"
        )
    return dataclasses.replace(config, devices=devices)


def check_alone(where: str | None) -> None:
    """Raises ValueError if a sweep, whose jobs are separate processes, uses it."""
    if where is not None:
        raise ValueError(
            "--sweep runs each job in a process of its own: leave out --distributed, "
            f"got {where!r}"
        )
