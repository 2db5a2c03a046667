"""Figures of runs with trainings that diverged: null in the results, NaN in arrays."""

import numpy as np
import pytest

from kd_heuristics import plots, report, runs
from kd_heuristics.plots import planes, style
from tests.report import folders


def diverge(value):
    """The first seed's, and with it the mean."""
    if not isinstance(value, dict):
        return value
    if "values" in value:
        return report.summary([np.nan, *value["values"][1:]])
    return {key: diverge(item) for key, item in value.items()}


def full(numbers):
    """A run of an arm as the study leaves it, of what the report's panels read."""
    setting = {"setting": {"epochs": 2}, "test_agreement": numbers["test_accuracy"]}
    return numbers | setting


@pytest.fixture
def funmatch(tmp_path):
    """The run folder of the study, with two students that diverged."""
    folders.write(tmp_path, ["funmatch"])
    run = runs.RunFolder(tmp_path / "funmatch")
    described, results = run.read_json("config.json"), run.read_json("results.json")
    described["config"]["teacher"] = "vgg11"
    run.write_json("config.json", described)
    arms = {
        arm: {length: full(run) for length, run in lengths.items()}
        for arm, lengths in results["arms"].items()
    }
    arms["mix"] = diverge(arms["mix"])
    results |= {"arms": arms, "teacher_accuracy": {"test": 0.9}}
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
    plots.funmatch(funmatch.path)
    text = report.write(funmatch.path.parent).read_text()
    assert "damaged" not in text
    assert "Ours: test accuracy" in text


def test_a_plane_without_a_finite_loss_says_so():
    figure, axes = style.panels(1, 1)
    found = {"xs": np.arange(4.0), "ys": np.arange(3.0)}
    losses = {"train_loss": np.full((3, 4), np.nan)}
    planes.surface(figure, axes[0, 0], found | losses, "train")
    figure.canvas.draw()
    assert [text.get_text() for text in axes[0, 0].texts] == ["no finite loss"]
