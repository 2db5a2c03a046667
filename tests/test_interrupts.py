"""Signals: noted, then at once; locks: held, told, released by death."""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import threading

import pytest

from kd_heuristics.runtime import interrupts

ROOT = pathlib.Path(__file__).parents[1]
# Waits in C for as long as nobody stops it: a handler in Python would not run.
STUCK = """
import ctypes
from kd_heuristics.runtime import interrupts
libc = ctypes.CDLL(None)
with interrupts.handled():
    print("ready", flush=True)
    left = 600
    while left:
        left = libc.sleep(left)
"""
POLITE = """
from kd_heuristics.runtime import interrupts
with interrupts.handled():
    print("ready", flush=True)
    try:
        while True:
            interrupts.check()
    except interrupts.Interrupted as stop:
        raise SystemExit(stop.status)
"""


# A training that holds a forked child, as of multiprocessing, and saves when asked to.
FORKING = """
import multiprocessing, os, signal, sys, time
import jax.numpy as jnp
import optax
from kd_heuristics import checkpoints, training
from kd_heuristics.runtime import interrupts

how, folder = sys.argv[1:]

def child():
    os.write(1, f"child {os.getpid()}\\n".encode())
    time.sleep(30)

def fork():
    if how == "os.fork":
        pid = os.fork()
        if pid == 0:
            child()
            os._exit(7)
        return lambda: (os.kill(pid, signal.SIGTERM), os.waitpid(pid, 0)[1])[1]
    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    return lambda: (process.terminate(), process.join(), process.exitcode)[2]

saves, save = [], checkpoints.save
def counted(*arguments, **named):
    saves.append(arguments[1])
    return save(*arguments, **named)
checkpoints.save = counted

def progress(steps, loss):
    time.sleep(0.02)

def objective(params, batch_stats, batch, key):
    return params ** 2, (batch_stats, {})

with interrupts.handled():
    end = fork()
    if how == "terminate":
        print("status", end(), interrupts.received(), flush=True)
    os.write(1, b"ready\\n")
    try:
        training.fit(objective, jnp.float32(1), {}, optax.sgd(0.1),
            lambda seed, step: step, num_steps=10**6, steps_per_call=1,
            logging=training.Logging(log_every_steps=10**6, progress=progress),
            checkpoints=training.Checkpoints(directory=folder))
    except interrupts.Interrupted as stop:
        print("saves", len(saves), len(checkpoints.steps(folder)), flush=True)
        os._exit(stop.status)
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


@pytest.fixture
def started():
    """Processes with groups of their own, which end with the test."""
    processes = []
    yield processes
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def forking(started, how, folder):
    """The process, and what it said until it trains."""
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", FORKING, how, str(folder)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a group of its own, as a shell gives it
    )
    started.append(process)
    assert process.stdout is not None
    said = {}
    while "ready" not in said or ("child" not in said and how != "terminate"):
        name, *rest = process.stdout.readline().split() or ["nothing"]
        assert name != "nothing", process.communicate(timeout=60)
        said[name] = rest
    return process, said


@pytest.mark.parametrize("how", ["os.fork", "multiprocessing"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_group_of_a_forked_child_counts_once(
    tmp_path, started, how, number
):
    process, _ = forking(started, how, tmp_path)
    os.killpg(process.pid, number)
    # It returns when nobody holds the output any more: the child is gone, too.
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 128 + number, errors
    assert out.split() == ["saves", "1", "1"]
    assert errors.count("stopping after the call") == 1


def test_a_forked_child_that_is_terminated_ends_and_its_parent_goes_on(
    tmp_path, started
):
    process, said = forking(started, "terminate", tmp_path)
    assert said["status"] == [str(-signal.SIGTERM), "False"]
    process.send_signal(signal.SIGTERM)
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 143, errors
    assert out.split() == ["saves", "1", "1"]


INSIDE = """
import os, signal
from kd_heuristics.runtime import interrupts
before = [signal.getsignal(number) for number in interrupts.SIGNALS]
with interrupts.handled():
    pid = os.fork()
    if pid == 0:
        assert [signal.getsignal(n) for n in interrupts.SIGNALS] == before
        assert not interrupts.received()
        with interrupts.handled():  # a child may ask for it anew
            os.kill(os.getpid(), signal.SIGTERM)
            while not interrupts.received():
                pass
if pid == 0:
    os._exit(5)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5
assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())
print("ready", flush=True)
"""


def test_a_child_has_the_handlers_of_before_and_leaves_the_block():
    process = start(INSIDE)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
