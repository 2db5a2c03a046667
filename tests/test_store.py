"""A run on an object store, as on a disk: nothing is renamed, appended or half there.

The store is a fake; orbax, which has clients of its own for `gs://`, is one here too.
"""

import contextlib
import io
import json

import jax
import numpy as np
import pytest
from etils import epath
from flax import traverse_util

from kd_heuristics import checkpoints, runs, training
from kd_heuristics.checkpoints import manifest
from kd_heuristics.checkpoints import store as checkpoint_store
from kd_heuristics.runtime import files, locks
from tests.faults import recipes
from tests.store import Store

FOLDER = "gs://bucket/run"


@pytest.fixture
def store(monkeypatch):
    return Store().install(monkeypatch)


@pytest.fixture
def orbax(monkeypatch):
    """Writes each array as an object, as it would; reads them back."""

    def save(path, tree):
        for name, leaf in traverse_util.flatten_dict(tree, sep=".").items():
            buffer = io.BytesIO()
            np.save(buffer, np.asarray(leaf))
            epath.Path(path).mkdir(parents=True, exist_ok=True)
            (epath.Path(path) / name).write_bytes(buffer.getvalue())

    def load(path, like):
        found = {
            name: jax.numpy.asarray(np.load(io.BytesIO((path / name).read_bytes())))
            for name in traverse_util.flatten_dict(like, sep=".")
        }
        return traverse_util.unflatten_dict(found, sep=".")

    monkeypatch.setattr(checkpoint_store.ocp, "save", save)
    monkeypatch.setattr(checkpoint_store.ocp, "load", load)


class Killed(BaseException):
    """Where SIGKILL would be: nothing may catch it."""


def test_a_file_is_sent_whole_or_not_at_all(store):
    target = files.path(f"{FOLDER}/a.npz")
    with files.whole(target) as partial:
        partial.write_bytes(b"1")
    with (
        contextlib.suppress(Killed),
        files.whole(target) as partial,
    ):
        partial.write_bytes(b"half")
        raise Killed
    assert store.objects == {f"{FOLDER}/a.npz": b"1"}


def test_a_store_that_refuses_says_what_helps(store):
    def refuse(name):
        raise RuntimeError("403 Forbidden")  # no OSError, as of gcsfs

    store.on_write = refuse
    with pytest.raises(files.WriteError, match="403 Forbidden"):
        files.write_text(f"{FOLDER}/a.txt", "a")
    with (
        pytest.raises(runs.RunError, match=r"403 Forbidden.*kd_heuristics\[gcs\]"),
        runs.RunFolder(FOLDER).lock(),
    ):
        pass


def test_a_run_on_a_store_is_that_on_a_disk(store, orbax, tmp_path):
    recipes.run("sgdr", tmp_path / "run")
    assert str(recipes.run("sgdr", FOLDER)) == FOLDER
    for name in ("config.json", "metrics.jsonl", "results.json"):
        there = (tmp_path / "run" / name).read_bytes()
        assert store.objects[f"{FOLDER}/{name}"] == there, name
    mine = runs.RunFolder(tmp_path / "run").load_arrays("arrays.npz")
    theirs = runs.RunFolder(FOLDER).load_arrays("arrays.npz")
    for name, array in mine.items():
        np.testing.assert_array_equal(array, theirs[name])
    for directory in (tmp_path / "run" / "checkpoints").iterdir():
        on_store = f"{FOLDER}/checkpoints/{directory.name}"
        assert checkpoints.steps(on_store) == checkpoints.steps(directory)
    assert f"{FOLDER}/.lock" not in store.objects


def test_killed_before_any_object_it_ends_the_same(store, orbax):
    recipes.run("sgdr", FOLDER)
    whole, written = dict(store.objects), []
    store.objects.clear()
    store.on_write = written.append
    recipes.run("sgdr", FOLDER)
    for at in range(3, len(written), 5):
        store.objects.clear()
        left = [at]

        def count(name, left=left):
            left[0] -= 1
            if left[0] == 0:
                raise Killed

        store.on_write = count
        with pytest.raises(Killed):
            recipes.run("sgdr", FOLDER)
        store.on_write = None
        recipes.run("sgdr", FOLDER)
        for name in ("config.json", "metrics.jsonl", "results.json", "arrays.npz"):
            there = store.objects[f"{FOLDER}/{name}"]
            assert there == whole[f"{FOLDER}/{name}"], (at, name)


def test_a_folder_without_a_manifest_is_no_checkpoint(store, orbax):
    checkpoints.save(FOLDER, 1, {"w": np.float32(1)})

    def kill(name):
        if name.endswith(manifest.FILE):
            raise Killed

    store.on_write = kill
    with pytest.raises(Killed):
        checkpoints.save(FOLDER, 2, {"w": np.float32(2)})
    store.on_write = None
    assert f"{FOLDER}/00000002/w" in store.objects
    assert checkpoints.steps(FOLDER) == [1]
    assert float(checkpoints.restore(FOLDER)["w"]) == 1
    checkpoints.tidy(FOLDER)
    assert not store.below(f"{FOLDER}/00000002")


def test_a_damaged_object_is_found(store, orbax):
    for step in (1, 2):
        checkpoints.save(FOLDER, step, {"w": np.float32(step)})
    name = f"{FOLDER}/00000002/w"
    store.objects[name] = store.objects[name][:-1] + b"\x00"
    with pytest.warns(checkpoints.DamageWarning, match="w is not as it was saved"):
        assert float(checkpoints.restore(FOLDER)["w"]) == 1


def test_lines_wait_for_the_file_to_be_written_anew(store):
    metrics = training.MetricsFile(f"{FOLDER}/metrics.jsonl")
    metrics.append("train", 1, {"loss": 2.0})
    assert not store.objects
    assert [line["step"] for line in metrics.read()] == [1]
    metrics.append("train", 2, {"loss": float("nan")})
    metrics.flush()
    lines = store.objects[f"{FOLDER}/metrics.jsonl"].decode().splitlines()
    assert [json.loads(line)["loss"] for line in lines] == [2.0, None]
    metrics.cut(["train"], 1)
    assert len(metrics.read()) == 1


def test_the_lock_says_who_is_inside_and_how_to_go_on_after_a_kill(store):
    folder = runs.RunFolder(FOLDER)
    with (
        folder.lock(),
        pytest.raises(runs.RunError, match=r"in use by process \d+ on .*remove gs://"),
        folder.lock(),
    ):
        pass
    assert not store.objects
    store.objects[f"{FOLDER}/{locks.FILE}"] = b'{"host": "a", "pid": 1}'
    with pytest.raises(runs.RunError, match="only just taken it"), folder.lock():
        pass
    store.objects.clear()
    with folder.lock():
        pass


def test_a_sink_of_local_files_is_refused(store, monkeypatch):
    monkeypatch.setenv(training.sinks.VARIABLE, "tensorboard")
    with pytest.raises(ValueError, match="tensorboard, which writes to a local folder"):
        training.MetricsFile(f"{FOLDER}/metrics.jsonl")
    board = training.MetricsFile(f"{FOLDER}/metrics.jsonl", sinks=[])
    assert board.sinks == []
