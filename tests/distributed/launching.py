"""Programs of several processes on this machine."""

import os
import pathlib
import socket
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]


def environment(devices: int) -> dict[str, str]:
    """Of a program with so many virtual devices, quick to compile."""
    flags = "--xla_backend_optimization_level=0"
    return os.environ | {"JAX_NUM_CPU_DEVICES": str(devices), "XLA_FLAGS": flags}


def free_port() -> int:
    """A port that nobody listens at now."""
    with socket.socket() as there:
        there.bind(("127.0.0.1", 0))
        return there.getsockname()[1]


def run(words: list[str], devices: int, status: int = 0) -> str:
    """What one program prints."""
    return end(begin(words, devices), status)[0]


def begin(words: list[str], devices: int) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, *words],
        cwd=ROOT,
        env=environment(devices),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def begin_pair(words: list[str], devices: int) -> list[subprocess.Popen]:
    """Two processes of a program, which is told where and which at its end."""
    where = f"127.0.0.1:{free_port()}"
    return [begin([*words, f"{where},2,{index}"], devices) for index in (0, 1)]


def end(process: subprocess.Popen, status: int = 0) -> tuple[str, str]:
    """Output and errors of a program that must end with a status."""
    out, errors = process.communicate(timeout=600)
    assert process.returncode == status, errors[-4000:]
    return out, errors
