"""The tools on several devices and in several processes: the numbers of one device."""

import json

import numpy as np
import pytest

from kd_heuristics import cli
from tests.distributed import launching

TOOLS = {
    "connect": "a.npz b.npz --epochs 2 --train-batch-size 4 --num-points 7",
    "surface": "a.npz b.npz --grid 3 2",
    "similarity": "a.npz b.npz --measure cka --conv mean",
}
# Several processes start in a folder of their own, and end with a word of theirs.
PROGRAM = """
import os, sys
folder, *others, where = sys.argv[1:]
os.chdir(folder)
from kd_heuristics import cli
for words in others:
    cli.main([*words.split(), "--distributed", where])
"""


def words(tool, own, *more):
    return [tool, *TOOLS[tool].split(), *own, *more]


def arrays(out):
    return dict(np.load(out / "arrays.npz"))


@pytest.fixture(scope="module")
def alone(folder):
    """The results of each tool on one device, below one/."""
    own = ("--model", "nets:make", "--data", "data.npz", "--batch-size", "8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(folder))
        patch.setattr("kd_heuristics.plots.style.save", lambda *_: None)
        for tool in TOOLS:
            cli.main(words(tool, own, "--out", f"one/{tool}"))
    return folder / "one"


def assert_agree(expected, found):
    assert expected.keys() == found.keys()
    for name, array in expected.items():
        # float32 sums in another order, after two epochs of fitting
        np.testing.assert_allclose(
            found[name], array, rtol=1e-4, atol=1e-5, err_msg=name
        )


@pytest.mark.parametrize("tool", TOOLS)
def test_devices_find_what_one_finds(tool, alone, inside, own, undrawn):
    cli.main(words(tool, own, "--devices", "4", "--out", f"four/{tool}"))
    assert_agree(arrays(alone / tool), arrays(inside / "four" / tool))


@pytest.mark.long
def test_two_processes_find_it_and_one_speaks(alone, folder, own):
    lines = [" ".join(words(tool, own, "--out", f"pair/{tool}")) for tool in TOOLS]
    both = launching.begin_pair(["-c", PROGRAM, str(folder), *lines], devices=2)
    first, second = (launching.end(process) for process in both)
    assert first[0].count("results: ") == len(TOOLS)
    assert "evaluating 7 points of a path" in first[1]
    lines = second[0].splitlines()
    assert [line for line in lines if not line.startswith("[Gloo]")] == []
    for tool in TOOLS:
        assert_agree(arrays(alone / tool), arrays(folder / "pair" / tool))
        assert json.loads((folder / "pair" / tool / "results.json").read_text())
        assert any((folder / "pair" / tool / "figures").iterdir())


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--devices", "99"), "a mesh of 99 devices needs 1 to 4"),
        (("--devices", "2", "--distributed", "auto"), "got --devices 2; leave it out"),
        (("--distributed", "here"), "takes auto or HOST:PORT,COUNT,INDEX"),
    ],
)
def test_devices_that_there_are_not_are_refused(more, message, inside, own, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(words("similarity", own, *more))
    assert message in capsys.readouterr().err
