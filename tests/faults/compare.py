"""Two run folders that must be the same to the bit."""

import json

import numpy as np

from kd_heuristics import checkpoints

FILES = ("config.json", "metrics.jsonl", "results.json", "arrays.npz")


def assert_same(folder, other, ordered=True) -> int:
    """Files, stages and every array of every checkpoint; the number of resumes.

    Args:
      folder: of the one run.
      other: of the other.
      ordered: whether the trainings must have written their lines in one order.
    """
    for name in FILES:
        mine, theirs = (
            (run / name).read_bytes().splitlines() for run in (folder, other)
        )
        if name == "metrics.jsonl" and not ordered:
            mine, theirs = sorted(mine), sorted(theirs)
        assert theirs == mine, name
    for part in ("stages", "figures", "checkpoints"):
        names = [sorted(p.name for p in (f / part).glob("*")) for f in (folder, other)]
        assert names[0] == names[1], part
    for stage in (folder / "stages").glob("*.npz"):
        with np.load(stage) as a, np.load(other / "stages" / stage.name) as b:
            assert a.files == b.files
            for name in a.files:
                np.testing.assert_array_equal(a[name], b[name], err_msg=stage.name)
    for directory in (folder / "checkpoints").glob("*"):
        if directory.is_file():  # a teacher's weights
            copy = other / "checkpoints" / directory.name
            assert copy.read_bytes() == directory.read_bytes(), directory.name
            continue
        mine, theirs = (f / "checkpoints" / directory.name for f in (folder, other))
        assert checkpoints.steps(mine) == checkpoints.steps(theirs), directory.name
        assert {p.name for p in theirs.iterdir()} == {p.name for p in mine.iterdir()}
        for step in checkpoints.steps(mine):
            a, b = (leaves(checkpoints.restore(d, step=step)) for d in (mine, theirs))
            assert a.keys() == b.keys()
            for name, array in a.items():
                assert array.tobytes() == b[name].tobytes(), (directory.name, name)
    record = json.loads((other / "environment.json").read_text())
    assert record["invocations"][-1]["finished"]
    return record["resumes"]


def leaves(tree, prefix=""):
    if not isinstance(tree, dict):
        return {prefix: np.asarray(tree)}
    return {
        key: leaf
        for name, part in tree.items()
        for key, leaf in leaves(part, f"{prefix}/{name}").items()
    }
