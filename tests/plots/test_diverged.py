"""Figures of runs with trainings that diverged: null in the results, NaN in arrays."""

import numpy as np
import pytest

from experiments.common import figures
from experiments.funmatch import study as module
from kd_heuristics import report, runs
from kd_heuristics.plots import style, surface
from tests.report import folders


def diverge(value):
    """The first seed's, and with it the mean."""
    if not isinstance(value, dict):
        return value
    if "values" in value:
        return report.summary([np.nan, *value["values"][1:]])
    return {key: diverge(item) for key, item in value.items()}


@pytest.fixture
def funmatch(tmp_path):
    """The run folder of the study, with two students that diverged."""
    folders.write(tmp_path, ["funmatch"])
    run = runs.RunFolder(tmp_path / "funmatch")
    results = run.read_json("results.json")
    results["arms"]["mix"] = diverge(results["arms"]["mix"])
    run.write_json("results.json", results)
    return run


@pytest.mark.parametrize("all_diverged", [False, True])
def test_a_student_that_diverged_leaves_a_gap(funmatch, all_diverged):
    if all_diverged:
        results = funmatch.read_json("results.json")
        funmatch.write_json(
            "results.json", results | {"arms": diverge(results["arms"])}
        )
        arrays = funmatch.load_arrays("arrays.npz")
        nothing = {key: np.nan * value for key, value in arrays.items()}
        funmatch.save_arrays("arrays.npz", nothing | {"mix@2/step": np.arange(3)})
    figures.draw(module.STUDY, funmatch.path)
    text = report.write(funmatch.path.parent).read_text()
    assert "damaged" not in text
    assert "Ours: test accuracy" in text


def test_a_plane_without_a_finite_loss_says_so():
    figure, axes = style.panels(1, 1)
    losses = np.full((3, 4), np.nan)
    surface.contours(axes[0, 0], np.arange(4.0), np.arange(3.0), losses)
    figure.canvas.draw()
    assert [text.get_text() for text in axes[0, 0].texts] == ["no finite loss"]
