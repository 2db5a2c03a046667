"""Every study's `cifar10` preset, two epochs end to end on the made-up CIFAR-10."""

import dataclasses
import json
import pathlib

import pytest

from experiments.common import launch
from experiments.distillation import study as distillation
from experiments.fsp import study as fsp
from experiments.fsp.config import Phase
from experiments.funmatch import study as funmatch
from experiments.funmatch.arms import Setting
from experiments.mode_connectivity import study as mode_connectivity
from experiments.sgdr import study as sgdr
from experiments.warmup import study as warmup

FIXTURES = pathlib.Path(__file__).parents[1] / "data" / "fixtures"

# What a CPU needs changed: length, width, and batches that the fixture can fill.
SMALL = {
    "seeds": 1,
    "epochs": 2,
    "width": 0.0625,
    "classifier_width": 16,
    "batch_size": 20,
    "eval_batch_size": 30,
}
CASES = {
    "sgdr": (
        sgdr.STUDY,
        {
            "sgdr_pairs": ((0, 1),),
            "step_pairs": ((0, 1),),
            "drops_epochs": (1,),
            "intervals": 3,
            "planes": ((0, 1),),
            "map_pairs": ((0, 1), (0, 1)),
            "map_examples": 200,
            "plane_iterates": (),
            "plane_grid": (2, 2),
            "chain": dataclasses.replace(
                sgdr.PRESETS["cifar10"].chain, epochs=2, drops_epochs=(1,)
            ),
        },
    ),
    "mode_connectivity": (
        mode_connectivity.STUDY,
        {
            "drops_epochs": (1,),
            "large_batch_size": 40,
            "intervals": 3,
            # So narrow a VGG-16 with so wide a start has losses without end.
            "init_factor": 1.1,
            "curve": dataclasses.replace(
                mode_connectivity.PRESETS["cifar10"].curve, epochs=2, drops_epochs=(1,)
            ),
            "curve_epochs": (1, 2),
        },
    ),
    "warmup": (
        warmup.STUDY,
        {
            "small_batch_size": 10,
            "warmup_epochs": 1,
            "drops_epochs": (1,),
            "map_examples": 200,
            "arms": ("small", "large", "warmup", "freeze_fc"),
        },
    ),
    "distillation": (
        distillation.STUDY,
        {
            "teacher_width": 0.0625,
            "teacher_epochs": 2,
            "first_stage_epochs": 1,
            "map_examples": 60,
            "temperatures": (5.0,),
        },
    ),
    "funmatch": (
        funmatch.STUDY,
        {
            "teacher": "resnet8",
            "teacher_width": 0.25,
            "teacher_epochs": 2,
            "model": "resnet8",
            "width": 0.25,
            "family": "mobilenet_tiny",
            "settings": (Setting(epochs=2, rate=0.003, decay=1e-4, temperature=2.0),),
            "other_epochs": 2,
            "main": ("same/ic", "mix"),
            "other_arms": ("fix/ic_ens", "ensemble", "labels_sgd+mixup"),
            "ensemble_crops": 2,
            "warmup_steps": 1,
        },
    ),
    "fsp": (
        fsp.STUDY,
        {"nets": 1, "teacher": "resnet8", "points": 2}
        | {
            f"{name}_phase": Phase(steps=4, rate=rate, drops=(2,))
            # The losses of first stages are sums over a layer.
            for rate, names in (
                (0.01, ("teacher", "fast", "transfer")),
                (1e-5, ("fsp", "hint", "transfer_fsp")),
            )
            for name in names
        },
    ),
}


@pytest.mark.long
@pytest.mark.parametrize("name", CASES)
def test_two_epochs(name, tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(FIXTURES))
    study, changes = CASES[name]
    config = study.presets["cifar10"]
    known = {field.name for field in dataclasses.fields(config)}
    small = {key: value for key, value in SMALL.items() if key in known}
    config = dataclasses.replace(config, **{**small, **changes})
    folder = launch.run(study, config, tmp_path / name)
    results = json.loads((folder / "results.json").read_text())
    assert results["seeds"] == [0]
    assert list((folder / "figures").glob("*.png"))
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    assert len(lines) >= 2
