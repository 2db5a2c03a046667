"""A reader of the output that leaves, as `head -1` does."""

import os
import subprocess
import sys

import pytest

from kd_heuristics.runtime import pipes


def run(*words):
    """Runs a program whose output nobody reads; returns its status and stderr."""
    read, write = os.pipe()
    os.close(read)
    how = {"stderr": subprocess.PIPE, "env": os.environ | {"PYTHONUNBUFFERED": ""}}
    try:
        found = subprocess.run([sys.executable, *words], stdout=write, text=True, **how)
    finally:
        os.close(write)
    return found.returncode, found.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("-m", "kd_heuristics.cli", "--help"),
        ("-m", "kd_heuristics.cli", "info", "--help"),
        ("-m", "kd_heuristics.cli", "info"),
        ("-m", "experiments.warmup", "--plan"),
    ],
)
def test_a_command_ends_quietly(words):
    assert run(*words) == (1, "")


@pytest.mark.parametrize("system", ["", "import select; del select.poll"])
def test_a_line_that_fails_at_once_ends_quietly(system):
    """Windows has no `select.poll`."""
    program = f"""
{system}
from kd_heuristics.runtime import pipes
with pipes.unread_ends_quietly():
    print("a line", flush=True)
"""
    assert run("-c", program) == (1, "")


@pytest.mark.parametrize("status", [2, 143])
def test_a_status_on_its_way_stays(status):
    program = f"""
from kd_heuristics.runtime import pipes
with pipes.unread_ends_quietly():
    print("a line")
    raise SystemExit({status})
"""
    assert run("-c", program) == (status, "")


def test_another_broken_pipe_is_raised():
    def send():
        with pipes.unread_ends_quietly():
            raise BrokenPipeError("a connection")

    with pytest.raises(BrokenPipeError, match="a connection"):
        send()
