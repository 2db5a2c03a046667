"""The notebooks of colab/: thin, without outputs, and each runs in small."""

import os
import pathlib
import re

import nbformat
import pytest

ROOT = pathlib.Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "colab").glob("*.ipynb"))

_TINY = """
DATASET, MODEL, OPTIONS = "digits_photo", "shallow", {"width": 0.1}
EXAMPLES, TEST_EXAMPLES, BATCH_SIZE = 40, 20, 20
"""
# What takes the place of the parameters, so that a run takes seconds.
SMOKE = {
    "1_sgdr": _TINY + "PERIOD_EPOCHS, CYCLES = 1, 2",
    "2_connect": _TINY + "EPOCHS, CURVE_EPOCHS, GRID = 1, 1, 2",
    "3_svcca": "EXAMPLES, UNITS, STEPS = 100, 8, 2",
    "4_warmup": _TINY + "EPOCHS, WARMUP_EPOCHS = 2, 1",
    "5_distillation": """
WIDTH, SIZE, EXAMPLES, TEST_EXAMPLES, BATCH_SIZE = 0.125, 16, 20, 10, 10
TEACHER, TEACHER_EPOCHS, FIRST_EPOCHS, EPOCHS = "resnet8", 1, 1, 1
""",
    "6_your_own_loop": """
EXAMPLES, STEPS, PERIOD, WARMUP, FROZEN_UNTIL = 50, 40, 10, 2, 5
""",
    "7_sharp_or_permuted": "EXAMPLES, UNITS, STEPS = 50, 8, 3",
    "8_your_own_verdict": "EXAMPLES, SEEDS, STEPS, BATCH_SIZE = 60, 2, 3, 20",
}
QUICK = ("6_your_own_loop",)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_is_thin_and_has_no_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert len(notebook.cells) <= 25
    assert "colab-badge.svg" in notebook.cells[0].source
    badge = rf"/blob/v\d+\.\d+\.\d+/colab/{path.name}"  # see test_release.py
    assert re.search(badge, notebook.cells[0].source)
    assert re.search(r"Until v[\d.]+ is published", notebook.cells[0].source)
    assert notebook.cells[1].metadata.tags == ["parameters"]
    assert ".sow(" not in "".join(cell.source for cell in notebook.cells)
    assert len(notebook.cells[2].source.splitlines()) <= 10  # the install cell
    for cell in notebook.cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in QUICK else [pytest.mark.long])
        for name in SMOKE
    ],
)
def test_runs(name, tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient", reason="extra [notebooks]")
    notebook = nbformat.read(ROOT / "colab" / f"{name}.ipynb", as_version=4)
    notebook.cells.insert(2, nbformat.v4.new_code_cell(SMOKE[name]))
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    monkeypatch.setenv("MPLBACKEND", "agg")
    # Compiled quickly rather than well.
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=0")
    nbclient.NotebookClient(
        notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    assert all(
        output.output_type != "error"
        for cell in notebook.cells
        for output in cell.get("outputs", [])
    )


def test_every_notebook_has_its_smoke_parameters():
    assert sorted(SMOKE) == [path.stem for path in NOTEBOOKS]
