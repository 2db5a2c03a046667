"""Signals: noted, then at once; locks: held, told, released by death."""

import os
import pathlib
import signal
import subprocess
import sys
import threading

import pytest

from kd_heuristics import interrupts

ROOT = pathlib.Path(__file__).parents[1]
# Waits in C for as long as nobody stops it: a handler in Python would not run.
STUCK = """
import ctypes
from kd_heuristics import interrupts
libc = ctypes.CDLL(None)
with interrupts.handled():
    print("ready", flush=True)
    left = 600
    while left:
        left = libc.sleep(left)
"""
POLITE = """
from kd_heuristics import interrupts
with interrupts.handled():
    print("ready", flush=True)
    try:
        while True:
            interrupts.check()
    except interrupts.Interrupted as stop:
        raise SystemExit(stop.status)
"""


def start(script):
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)]
)
def test_the_first_is_noted(number, status):
    process = start(POLITE)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == status
    assert f"{number.name}: stopping after the call" in said


def test_the_second_stops_at_once_whatever_is_running():
    process = start(STUCK)
    assert process.stderr is not None
    process.send_signal(signal.SIGTERM)
    while "once more" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130


def test_outside_all_is_as_it_was():
    before = signal.getsignal(signal.SIGINT)
    with interrupts.handled():
        with interrupts.handled():
            pass
        assert signal.getsignal(signal.SIGINT) is not before
        os.kill(os.getpid(), signal.SIGTERM)
        while not interrupts.received():
            pass
        with pytest.raises(interrupts.Interrupted, match="stopped by SIGTERM"):
            interrupts.check()
    assert signal.getsignal(signal.SIGINT) is before
    interrupts.check()


def test_in_a_thread_it_does_nothing():
    found = []

    def run():
        with interrupts.handled():
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [signal.SIG_DFL]
