"""Files written whole or not at all; disks without room."""

import os
import pathlib
import subprocess
import sys

import jax.numpy as jnp
import matplotlib.figure
import numpy as np
import pytest

from kd_heuristics import data, distill, runs, training
from kd_heuristics.plots import style
from kd_heuristics.points import surfaces
from kd_heuristics.runtime import compile_cache, files

ROOT = pathlib.Path(__file__).parents[1]


def test_what_was_there_stays_where_writing_fails(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    files.write_text(path, "old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pathlib.Path, "replace", full)
    with pytest.raises(files.WriteError, match=rf"{path} could not .*No space left"):
        files.write_text(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_an_exception_inside_leaves_nothing(tmp_path):
    def fail():
        with files.whole(tmp_path / "a") as partial:
            partial.write_text("half")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert not list(tmp_path.iterdir())


def test_a_missing_folder_is_said(tmp_path):
    with pytest.raises(files.WriteError, match="No such file or directory"):
        files.write_text(tmp_path / "gone" / "a", "x")


@pytest.mark.parametrize("name", [".", "..", ""])
def test_a_folder_in_place_of_a_file_is_said(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(files.WriteError, match=r"^\.+ is a folder; give the path of a"):
        files.write_text(pathlib.Path(name), "x")
    assert not list(tmp_path.iterdir())


def test_figures_are_renamed_into_place(tmp_path, monkeypatch):
    seen = []
    real = matplotlib.figure.Figure.savefig

    def spy(self, path, **options):
        seen.append(pathlib.Path(path).name)
        real(self, path, **options)

    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", spy)
    figure, _ = style.panels(1, 1)
    style.save(figure, tmp_path, "f")
    assert seen == [".partial-f.png", ".partial-f.pdf"]
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {
        "f.png",
        "f.pdf",
    }


# The limit on a file's size stands for a disk that fills up: also tensorstore, in C++,
# meets it. SIGXFSZ is ignored by Python.
FULL = """
import resource, sys
import jax.numpy as jnp
import numpy as np
from kd_heuristics import checkpoints, runs
from kd_heuristics.runtime import files
tree = {"w": jnp.arange(2.0**16)}
folder = sys.argv[1]
checkpoints.save(folder + "/c", 1, tree)
run = runs.RunFolder(folder)
run.save_arrays("a.npz", {"x": np.zeros(3)})
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 14, resource.RLIM_INFINITY))
values = np.random.RandomState(0).normal(size=2**16)
for attempt in (
    lambda: checkpoints.save(folder + "/c", 2, {"w": jnp.asarray(values)}),
    lambda: run.save_arrays("a.npz", {"x": values}),
):
    try:
        attempt()
    except (checkpoints.CheckpointError, files.WriteError) as error:
        print("said:", error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
tree = checkpoints.restore(folder + "/c", tree)
print(checkpoints.steps(folder + "/c"), tree["w"][3])
print(run.load_arrays("a.npz")["x"])
"""


def test_a_full_disk_leaves_the_last_good_state(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)],
        cwd=ROOT,
        env=os.environ | {"JAX_NUM_CPU_DEVICES": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    first, second, third, fourth = done.stdout.splitlines()
    assert first.startswith("said: the checkpoint of step 2 could not be written")
    assert "the steps there stay: [1]" in first
    assert second.startswith(f"said: {tmp_path}/a.npz could not be written (File too")
    assert (third, fourth) == ("[1] 3.0", "[0. 0. 0.]")
    assert sorted(p.name for p in (tmp_path / "c").iterdir()) == ["00000001"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.npz", "c"]


def test_a_damaged_stage_is_computed_again_and_said(tmp_path):
    folder = runs.RunFolder(tmp_path)
    made = folder.stage("a", lambda: {"x": np.arange(3)})
    file = tmp_path / "stages" / "a.npz"
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.warns(UserWarning, match=r"a.npz cannot be read .* now recomputed"):
        again = folder.stage("a", lambda: {"x": np.arange(3)})
    np.testing.assert_array_equal(again["x"], made["x"])


@pytest.mark.parametrize("content", ["", "{", "[]", '{"invocations": 3}'])
def test_a_damaged_environment_is_begun_anew_and_said(tmp_path, content):
    folder = runs.RunFolder(tmp_path)
    (tmp_path / "environment.json").write_text(content)
    with pytest.warns(UserWarning, match=r"environment.json is damaged"):
        folder.begin()
    assert folder.read_json("environment.json")["resumes"] == 0


def test_a_home_is_expanded_wherever_a_path_is_taken(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    files.write_text("~/a.txt", "text")
    run = runs.RunFolder("~/run")
    with run.lock():
        run.write_json("b.json", 1)
    training.MetricsFile(pathlib.Path("~/run/metrics.jsonl"), ()).append("a", 1, {})
    surfaces.evaluate(
        lambda x, y: {"w": jnp.array([x, y])},
        *([0, 1], [0, 1], {"train": {"x": jnp.ones((1, 1, 2))}}),
        lambda params, _, batch: {"loss": batch["x"] @ params["w"]},
        "~/run/surface.npz",
    )
    assert surfaces.load("~/run/surface.npz").done.all()
    distill.transfer.save_npz("~/run/weights", {"w": np.ones(2)})
    assert [*distill.transfer.load_npz("~/run/weights.npz")] == ["w"]
    target = data.targets.stored("~/run/targets.npz", {}, lambda: np.ones(2))
    assert target.tolist() == [1, 1]
    wanted = compile_cache.wanted({compile_cache.VARIABLE: "~/cache"}, "cpu")
    assert wanted == tmp_path / "cache"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "run"]
    names = ["b.json", "metrics.jsonl", "surface.npz", "targets.npz", "weights.npz"]
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == names
