"""Environment of a process: versions, devices, commit, command."""

import os
import shlex
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from kd_heuristics.runtime import onednn

_PACKAGES = ("kd_heuristics", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint")


def environment() -> dict[str, Any]:
    """Returns versions, devices, git commit, command and start of this process."""
    devices = jax.devices()
    return {
        "command": shlex.join([Path(sys.executable).name, *sys.orig_argv[1:]]),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "python": sys.version.split()[0],
        "versions": {name: _version(name) for name in _PACKAGES},
        "backend": jax.default_backend(),
        "devices": [f"{devices[0].device_kind} x {len(devices)}"],
        "cpu_cores": os.cpu_count(),
        "onednn": onednn.setting(),
        "git_commit": _git_commit(),
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    """Returns the commit of this file's checkout, or None outside of one."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        result = subprocess.run(
            command,
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() or None
