"""Programs that are asked to stop, or killed: status, one line, and the same end."""

import os
import pathlib
import subprocess
import sys

import jax
import pytest

from tests.faults import compare, recipes

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return recipes.run("fsp", tmp_path_factory.mktemp("whole") / "run")


def signalled(name, folder):
    """A program of its own, signalled within the first stage's training."""
    words = ["tests.faults.recipes", "fsp", str(folder)]
    return subprocess.run(
        [sys.executable, "-m", "tests.faults.child", str(folder), "20", name, *words],
        cwd=ROOT,
        # As many virtual devices as in this process: their number changes the threads
        # of a device and with them the order of sums.
        env=os.environ | {"JAX_NUM_CPU_DEVICES": str(len(jax.devices()))},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(("name", "status"), [("TERM", 143), ("INT", 130)])
def test_a_program_that_is_asked_to_stop(name, status, whole, tmp_path):
    folder = tmp_path / "run"
    done = signalled(name, folder)
    assert done.returncode == status
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"stopped by SIG{name}; nothing is lost. To go on: python")
    assert not (folder / "error.json").exists()
    assert not (folder / ".lock").exists()
    assert list((folder / "checkpoints" / "stage").iterdir())
    recipes.run("fsp", folder)
    assert compare.assert_same(whole, folder) == 1


def test_a_program_that_is_killed(whole, tmp_path):
    folder = tmp_path / "run"
    assert signalled("KILL", folder).returncode == -9
    assert list((folder / "checkpoints" / "stage").iterdir())
    recipes.run("fsp", folder)
    assert compare.assert_same(whole, folder) == 1
