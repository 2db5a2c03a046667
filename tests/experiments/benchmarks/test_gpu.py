"""The GPU's benchmark, in miniature on this CPU, without any package but the named."""

import os
import pathlib
import subprocess
import sys

import pytest

from experiments.benchmarks import bare, gpu, train_step

ROOT = pathlib.Path(__file__).parents[3]
# What a machine with jax, flax, optax and PyTorch has not. Flax brings etils and rich.
ABSENT = (
    "tyro tensorflow_datasets grain sklearn matplotlib plotly PIL array_record "
    "jaxtyping threadpoolctl importlib_resources"
)
CHILD = f"""
import runpy, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {ABSENT.split()!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

import importlib.util
real = importlib.util.find_spec
def find_spec(name, package=None):
    try:
        return real(name, package)
    except ModuleNotFoundError:
        return None
importlib.util.find_spec = find_spec
sys.meta_path.insert(0, Absent())
sys.argv = ["gpu", "--device", "cpu", "--quick", "--compile", "off", *sys.argv[1:]]
runpy.run_module("experiments.benchmarks.gpu", run_name="__main__")
"""


# How many rows each table has.
TABLES = {"networks": 1, "curve": 1, "map": 2, "population": 3, "strategies": 5}


def printed(*only):
    pytest.importorskip("torch")
    done = subprocess.run(
        [sys.executable, "-c", CHILD, "--only", *only],
        env=os.environ
        | {
            "PYTHONPATH": str(ROOT),
            "XLA_FLAGS": "--xla_backend_optimization_level=0",  # compiles faster
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "names",
    [
        ("networks", "map"),
        # Half a minute of compilation.
        pytest.param(("curve", "population", "strategies"), marks=pytest.mark.long),
    ],
    ids="-".join,
)
def test_tables_fill_on_a_bare_machine(names):
    text = printed(*names)
    assert "without jaxtyping, without threadpoolctl" in text
    assert "Dropped" not in text
    tables = text.split("\n## ")[1:]
    assert tuple(table.split("\n")[0] for table in tables) == names
    for name, table in zip(names, tables, strict=True):
        header, line, *found = [row for row in table.splitlines() if row[:1] == "|"]
        assert len(found) == TABLES[name]
        assert {row.count("|") for row in (header, line, *found)} == {header.count("|")}


def test_rows_are_dropped_when_the_time_is_over():
    now = [0.0]

    def lasts(seconds):
        def measure():
            now[0] += seconds
            return seconds

        return measure

    budget = gpu.Budget(100.0, lambda: now[0])
    assert budget.row("a", "first", lasts(50.0)) == 50.0
    # No other as long fits in the 50 s that are left, but one of 40.
    assert budget.row("a", "second", lasts(40.0)) == 40.0
    assert budget.row("a", "third", lasts(1.0)) is None
    assert budget.row("b", "fourth", lasts(1.0)) is None
    assert budget.dropped == ["a: third", "b: fourth"]


def test_a_gpu_that_is_not_there_is_said(monkeypatch):
    monkeypatch.setattr(bare, "fill", list)
    with pytest.raises(SystemExit, match="jax finds no gpu here"):
        gpu.main(["--quick"])


def test_stand_ins_annotate():
    module = bare._jaxtyping()
    assert (module.Float[module.Array, "b"] | float) is not None
    with bare._threadpoolctl().ThreadpoolController().limit(limits=1):
        pass


def test_all_networks_are_known():
    assert tuple(TABLES) == gpu.TABLES
    assert set(gpu.FULL.networks) <= set(train_step.CASES)
