"""The run folder: what is refused, what is kept, what is written whole."""

import importlib
import json
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from kd_heuristics import checkpoints, runs

FORMAT = {"format": runs.FORMAT}
DESCRIBED = {"study": "s", "config": {"seeds": 3, "rate": 0.1}}


def test_reopening_the_same_run_is_fine_and_another_is_listed(tmp_path):
    folder = runs.RunFolder(tmp_path / "run")
    folder.open(DESCRIBED)
    folder.open(DESCRIBED)
    before = (folder.path / "config.json").read_bytes()
    with pytest.raises(runs.RunError, match=r"config.rate: 0.1 there, 0.2 asked"):
        folder.open({"study": "s", "config": {"seeds": 3, "rate": 0.2}})
    assert (folder.path / "config.json").read_bytes() == before


@pytest.mark.parametrize("there", [None, 1, runs.FORMAT + 1, "x"])
def test_a_folder_of_another_format_is_refused_in_a_sentence(tmp_path, there):
    folder = runs.RunFolder(tmp_path)
    own = {} if there is None else {"format": there}
    folder.write_json("config.json", own | DESCRIBED)
    words = "no format" if there is None else f"format {there}"
    with pytest.raises(runs.RunError, match=rf"has {words}, .*--workdir, or remove"):
        folder.open(DESCRIBED)
    assert folder.read_json("config.json") == own | DESCRIBED


def test_a_folder_with_other_files_is_not_taken(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(runs.RunError, match=r"not a run folder \(first: thesis.tex\)"):
        runs.RunFolder(tmp_path).open(DESCRIBED)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


LEFT = [".writable", ".lock", ".lock-owner", ".partial-config.json"]


@pytest.mark.parametrize("left", LEFT)
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


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A module with a function of another, and a way to change that one."""
    root = tmp_path / "code"
    root.mkdir()
    (root / "mine_study.py").write_text(
        "import numpy as np\nimport mine_tool\n\n"
        "def compute():\n    return {'x': np.full(2, mine_tool.value())}\n"
    )
    monkeypatch.syspath_prepend(root)

    def write(text):
        (root / "mine_tool.py").write_text(text)
        for name in ("mine_study", "mine_tool"):
            sys.modules.pop(name, None)
        importlib.invalidate_caches()
        return importlib.import_module("mine_study").compute

    yield write
    for name in ("mine_study", "mine_tool"):
        sys.modules.pop(name, None)


FIRST = "def value():\n    return 1.0\n"
SAID = 'def value():\n    """The value."""\n    return 1.0  # so\n'
MENDED = "def value():\n    return 2.0 * 1\n"
OTHER = "The modules that differ: mine_tool. Add --recompute"


def test_a_stage_of_other_code_is_refused_made_anew_or_accepted(tmp_path, study):
    path = tmp_path / "run"
    runs.RunFolder(path).stage("a", study(FIRST))
    assert runs.RunFolder(path).stage("a", study(SAID))["x"].tolist() == [1, 1]
    before = (path / "stages/a.npz").read_bytes()
    with pytest.raises(runs.CodeChangedError, match=OTHER):
        runs.RunFolder(path).stage("a", study(MENDED))
    accepting = runs.RunFolder(path, "accept")
    entry = accepting.begin()
    assert accepting.stage("a", study(MENDED))["x"].tolist() == [1, 1]
    accepting.end(entry, 1.0)
    assert (path / "stages/a.npz").read_bytes() == before
    (record,) = accepting.read_json("environment.json")["invocations"]
    stage = f"the stage {path / 'stages/a.npz'}"
    assert record["accepted_code"] == {stage: ["mine_tool"]}
    with pytest.raises(runs.CodeChangedError, match=OTHER):  # acceptance does not stay
        runs.RunFolder(path).stage("a", study(MENDED))
    (path / "results.json").write_text("{}")
    anew = runs.RunFolder(path, "recompute").stage("a", study(MENDED))
    assert anew["x"].tolist() == [2, 2]
    assert not (path / "results.json").exists()
    assert runs.RunFolder(path).stage("a", study(MENDED))["x"].tolist() == [2, 2]
    assert list(anew) == ["x"]


def test_a_stage_whose_code_was_not_recorded_is_refused(tmp_path, study):
    folder = runs.RunFolder(tmp_path / "run")
    folder.save_arrays("stages/a.npz", {"x": np.ones(1)})
    with pytest.raises(runs.CodeChangedError, match="was not recorded"):
        folder.stage("a", study(FIRST))


def test_checkpoints_of_other_code_are_refused_made_anew_or_accepted(tmp_path, study):
    path = tmp_path / "run"

    def open_(text, rule="refuse"):
        return runs.RunFolder(path, rule).training("train", study(text))

    directory = open_(FIRST)
    assert open_(MENDED) == directory  # nothing was trained yet
    open_(FIRST)
    checkpoints.save(directory, 3, {"a": jnp.ones(2)})
    open_(SAID)
    with pytest.raises(runs.CodeChangedError, match=OTHER):
        open_(MENDED)
    assert checkpoints.steps(open_(MENDED, "accept")) == [3]
    # The other code has trained no step: the first alone made it.
    assert checkpoints.steps(open_(FIRST)) == [3]
    with pytest.raises(runs.CodeChangedError, match=OTHER):
        open_(MENDED)
    open_(MENDED, "accept")
    checkpoints.save(directory, 5, {"a": jnp.ones(2)})
    # From here on two codes have trained it: neither alone made it.
    for text in (FIRST, MENDED):
        with pytest.raises(runs.CodeChangedError, match=OTHER):
            open_(text)
    assert checkpoints.steps(open_(MENDED, "recompute")) == []
    checkpoints.save(directory, 1, {"a": jnp.ones(2)})
    assert checkpoints.steps(open_(MENDED)) == [1]


CLAIM = {
    "statement": "it rises",
    "statistic": "rise",
    "direction": "above",
    "smallest_effect": 0.0,
    "margin": 0.1,
    "unit": "nats",
    "paper": 0.5,
}
WORDED = DESCRIBED | {
    "question": "Does it rise?",
    "claims": [CLAIM, CLAIM | {"statistic": "fall"}],
    "deviations": {"rate": [0.1, 0.2]},
}


@pytest.mark.parametrize(
    "words",
    [
        {"question": "Does it rise at all?"},
        {"deviations": {"rate": [0.1, 0.3]}},
        {"claims": WORDED["claims"][::-1]},
        *(
            {"claims": [CLAIM | change, WORDED["claims"][1]]}
            for change in ({"statement": "It rises."}, {"unit": "bits"}, {"paper": 0.6})
        ),
    ],
)
def test_other_words_are_written_and_refuse_nothing(tmp_path, words):
    folder = runs.RunFolder(tmp_path)
    folder.open(WORDED)
    folder.open(WORDED | words)
    assert folder.read_json("config.json") == FORMAT | WORDED | words


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"margin": 0.2}, "claims.rise"),
        ({"smallest_effect": 0.1}, "claims.rise"),
        ({"direction": "below"}, "claims.rise"),
        ({"statistic": "fall"}, "claims.fall"),
    ],
)
def test_another_rule_of_a_claim_is_another_run(tmp_path, change, named):
    folder = runs.RunFolder(tmp_path)
    folder.open(WORDED)
    with pytest.raises(runs.RunError, match=named):
        folder.open(WORDED | {"claims": [CLAIM | change, WORDED["claims"][1]]})
    assert folder.read_json("config.json") == FORMAT | WORDED


def test_other_words_leave_the_free_fields_that_are_there(tmp_path):
    folder = runs.RunFolder(tmp_path)
    one = WORDED | {"config": {"devices": 1, "rate": 0.1}}
    folder.open(one)
    other = {"config": {"devices": 4, "rate": 0.1}, "question": "Why?"}
    folder.open(one | other, free=("devices",))
    assert folder.read_json("config.json") == FORMAT | one | {"question": "Why?"}


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
