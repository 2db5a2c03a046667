"""The benchmark of a whole study: both sides get the same work."""

import dataclasses
import json

import numpy as np
import pytest

from experiments.benchmarks import study
from experiments.common import fields
from experiments.sgdr.config import PRESETS

TINY = fields.resolved(
    dataclasses.replace(
        PRESETS["demo"],
        seeds=1,
        train_examples=100,
        eval_examples=20,
        stats_examples=20,
        map_examples=50,
        epochs=2,
        period_epochs=1 / 2,
        warmup_epochs=0,
        drops_epochs=(1 / 2,),
        intervals=2,
        plane_grid=(2, 2),
    )
)


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    file = tmp_path_factory.mktemp("work") / "work.npz"
    np.savez(file, **study.of_study(TINY))
    return file


def test_the_work_is_the_study_s(work):
    arrays = np.load(work)
    settings = json.loads(str(arrays["settings"]))
    assert arrays["train_images"].shape == (100, 32, 32, 3)
    assert abs(arrays["train_images"].mean()) < 0.1  # normalised
    assert len(arrays["test_images"]) == len(arrays["test_labels"])
    for arm in ("sgdr", "step", "cosine"):
        assert len(arrays[f"rates/{arm}"]) == 2 * 2  # epochs, steps
        for pair in settings["pairs"][arm]:
            assert {*pair} <= {*settings["kept"]}
    assert settings["joined"]["sgdr"] == [settings["pairs"]["sgdr"][-1]]


def test_other_networks_are_refused():
    with pytest.raises(SystemExit, match="VGG-11 with batch norm alone"):
        study.of_study(fields.resolved(PRESETS["smoke"]))


def test_the_table_keeps_what_an_interrupt_leaves():
    first = {"all": 10.0, "CPU": 12.0}
    text = study.table({"ours": [first], "PyTorch": [{**first, "all": 20.0}]})
    assert "| PyTorch | all | 20.0 (20.0 to 20.0) | 2.00 |" in text
    assert study.table({"ours": [first], "PyTorch": []}).count("\n") == 3


def test_by_hand(work, tmp_path):
    pytest.importorskip("torch")
    found = study.by_hand(work, tmp_path / "torch.json")
    parts = {"trainings", "chains", "paths", "plane", "maps"}
    assert parts < found.keys()
    losses = json.loads((tmp_path / "torch.json").read_text())["losses"]
    ends = np.array(losses["sgdr-0-1-segment"])[[0, -1]]
    assert np.allclose(ends, np.array(losses["sgdr-0-1-chain"])[[0, -1]], rtol=1e-4)
