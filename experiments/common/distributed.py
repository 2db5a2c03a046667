"""The option --distributed of all studies: one run of several processes."""

import dataclasses
from typing import Any

import jax

HELP = (
    "one run of several processes, each started with this command: auto (Slurm, Open "
    "MPI, Kubernetes, TPU) | HOST:PORT,COUNT,INDEX"
)


def on_all_devices(config: Any) -> Any:
    """The config with its batches split over the devices of all processes.

    Raises:
      ValueError: they do not divide the batches, or another number was asked for.
    """
    devices = len(jax.devices())
    if config.devices not in (1, devices):
        raise ValueError(
            f"--distributed takes all {devices} devices of all processes, got devices "
            f"{config.devices}; leave it out"
        )
    return dataclasses.replace(config, devices=devices)


def check_alone(where: str | None) -> None:
    """Raises ValueError for a sweep, whose jobs are processes of their own."""
    if where is not None:
        raise ValueError(
            "--sweep runs each job in a process of its own: leave out --distributed, "
            f"got {where!r}"
        )
