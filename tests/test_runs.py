"""The run folder: what is refused, what is kept, what is written whole."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from kd_heuristics import runs

DESCRIBED = {"study": "s", "config": {"seeds": 3, "rate": 0.1}}


def test_reopening_the_same_run_is_fine_and_another_is_listed(tmp_path):
    folder = runs.RunFolder(tmp_path / "run")
    folder.open(DESCRIBED)
    folder.open(DESCRIBED)
    before = (folder.path / "config.json").read_bytes()
    with pytest.raises(runs.RunError, match=r"config.rate: 0.1 there, 0.2 asked"):
        folder.open({"study": "s", "config": {"seeds": 3, "rate": 0.2}})
    assert (folder.path / "config.json").read_bytes() == before


def test_a_folder_with_other_files_is_not_taken(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(runs.RunError, match=r"not a run folder \(first: thesis.tex\)"):
        runs.RunFolder(tmp_path).open(DESCRIBED)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("left", [".writable", ".lock", ".partial-config.json"])
def test_what_a_killed_start_left_is_no_hindrance(tmp_path, left):
    (tmp_path / left).write_text("x")
    folder = runs.RunFolder(tmp_path)
    with folder.lock():
        folder.open(DESCRIBED)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(runs.RunError, match=r"cannot be written.*--workdir"):
        runs.RunFolder(tmp_path / "file" / "run").open(DESCRIBED)


@pytest.mark.parametrize("content", [b"", b"{", b"PK\x03\x04 no archive"])
def test_damaged_files_are_named(tmp_path, content):
    folder = runs.RunFolder(tmp_path)
    for name in ("config.json", "arrays.npz"):
        (tmp_path / name).write_bytes(content)
    with pytest.raises(runs.RunError, match=r"config.json cannot be read"):
        folder.open(DESCRIBED)
    with pytest.raises(runs.RunError, match=r"arrays.npz cannot be read"):
        folder.load_arrays("arrays.npz")


def test_a_stage_is_computed_once_and_its_file_is_the_same_each_time(tmp_path):
    folder = runs.RunFolder(tmp_path)
    calls = []

    def compute():
        calls.append(1)
        return {"x": np.arange(3.0)}

    first = folder.stage("a", compute)
    np.testing.assert_array_equal(folder.stage("a", compute)["x"], first["x"])
    assert calls == [1]
    folder.stage("b", compute)
    stages = tmp_path / "stages"
    assert (stages / "a.npz").read_bytes() == (stages / "b.npz").read_bytes()


def test_types_of_ml_dtypes_are_written_as_float32(tmp_path):
    folder = runs.RunFolder(tmp_path)
    arrays = {"a": np.array([1.5, -2.0], jnp.bfloat16), "b": np.float16([1.5])}
    folder.save_arrays("arrays.npz", arrays)
    found = folder.load_arrays("arrays.npz")
    assert {name: x.dtype.name for name, x in found.items()} == {
        "a": "float32",
        "b": "float16",
    }
    np.testing.assert_array_equal(found["a"], [1.5, -2.0])


def test_arrays_of_objects_are_not_unpickled(tmp_path):
    np.savez(tmp_path / "arrays.npz", x=np.array([{"a": 1}], object))
    with pytest.raises(runs.RunError, match="cannot be read"):
        runs.RunFolder(tmp_path).load_arrays("arrays.npz")


def test_environment_counts_resumes_and_keeps_each_invocation(tmp_path):
    folder = runs.RunFolder(tmp_path)
    folder.begin()
    folder.end(folder.begin(), 1.26)
    record = json.loads((tmp_path / "environment.json").read_text())
    assert record["resumes"] == 1
    assert [entry["finished"] for entry in record["invocations"]] == [False, True]
    assert record["invocations"][1]["seconds"] == 1.3
    assert record["invocations"][1]["versions"]["jax"]
