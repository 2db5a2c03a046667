"""Studies on one's own images: sgdr is run, the others are planned; bad input."""

import dataclasses
import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments.common import fields, launch
from experiments.reproduce import STUDIES
from experiments.sgdr import study as sgdr
from kd_heuristics import report
from tests.experiments import planned

SMALL = {"train_examples": 100, "map_examples": 50, "eval_examples": 20}


def write(path, **changes):
    """Images whose mean colour is their class's."""
    random, arrays = np.random.default_rng(0), {}
    for split, count in (("train", 160), ("validation", 160), ("test", 160)):
        labels = np.arange(count) % 3
        images = random.integers(0, 156, (count, 32, 32, 3))
        images[np.arange(count), :, :, labels] += 100
        arrays |= {f"{split}_images": images / 255, f"{split}_labels": labels}
    np.savez(path, **arrays | changes)
    return str(path)


@pytest.fixture(scope="module")
def npz(tmp_path_factory):
    return write(tmp_path_factory.mktemp("own") / "own.npz")


def test_a_study_runs_on_a_file(npz, tmp_path):
    config = dataclasses.replace(sgdr.PRESETS["smoke"], dataset=npz, **SMALL)
    folder = launch.run(sgdr.STUDY, config, tmp_path / "runs" / "sgdr")
    planned.check(sgdr.STUDY, folder, config)
    assert json.loads((folder / "config.json").read_text())["config"]["dataset"] == npz
    assert npz in report.write(folder.parent).read_text()


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.name)
def test_every_study_is_planned_on_a_file(study, npz, tmp_path, monkeypatch, capsys):
    words = ["--preset", "smoke", "--dataset", npz, "--workdir", str(tmp_path / "run")]
    monkeypatch.setattr(sys, "argv", [study.name, *words, "--plan"])
    monkeypatch.setenv("COLUMNS", "300")  # a line is not broken
    launch.main(study)
    assert "160 train, 160 validation, 160 test; 3 classes" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()
    config = dataclasses.replace(study.presets["smoke"], dataset=npz)
    networks = [its.network for its in study.plan(fields.resolved(config)).trainings]
    assert {net.shape[-1] for net in networks} == {3}


def folder(path, sides=(32, 32)):
    for name, side in zip("ab", sides, strict=True):
        (path / name).mkdir(parents=True)
        for index in range(200):
            file = io.BytesIO()
            Image.new("RGB", (side, side), (index, 0, 0)).save(file, "PNG")
            (path / name / f"{index}.png").write_bytes(file.getvalue())
    return str(path)


def broken(path):
    name = folder(path)
    for file in (path / "a").iterdir():
        file.write_bytes(file.read_bytes()[:50])
    return name


@pytest.mark.parametrize(
    ("make", "status", "words"),
    [
        (lambda path: str(path / "none.npz"), 2, "there is no "),
        (lambda path: str(path / "none"), 2, "there is no "),
        (lambda path: "tfds:cifar10", 2, "kd-heuristics prepare cifar10"),
        (lambda path: "tfds:", 2, "write tfds:NAME"),
        (
            lambda path: write(path / "a.npz", test_labels=np.ones(9, int)),
            2,
            "give each image one label",
        ),
        (
            lambda path: write(path / "a.npz", train_labels=np.ones(160, int)),
            2,
            "one class, 1",
        ),
        (
            lambda path: write(path / "a.npz", test_labels=np.arange(160)),
            2,
            "must lie in 0..2",
        ),
        (
            lambda path: write(path / "a.npz", train_images=np.ones((160, 3, 8, 8))),
            2,
            "channels come first",
        ),
        (
            lambda path: write(
                path / "a.npz", train_images=np.ones((160, 32, 32, 3)) * 2
            ),
            1,
            "must lie in [0, 1]",
        ),
        (lambda path: folder(path / "f", (32, 40)), 1, "differ in size"),
        (lambda path: broken(path / "f"), 1, "cannot be read as an image"),
        (lambda path: folder(path / "f"), 1, "channel 1 of the set"),
        (lambda path: str(Path(folder(path / "f" / "train")).parent), 2, "and splits"),
    ],
)
def test_bad_images_end_with_one_message(
    make, status, words, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    given = ["--preset", "smoke", "--dataset", make(tmp_path)]
    given += [x for k, v in SMALL.items() for x in (f"--{k.replace('_', '-')}", str(v))]
    given += ["--workdir", str(tmp_path / "run")]
    monkeypatch.setattr(sys, "argv", ["sgdr", *given])
    with pytest.raises(SystemExit) as caught:
        launch.main(sgdr.STUDY)
    error = capsys.readouterr().err
    assert caught.value.code == status
    assert error.startswith("error: ")
    assert words in error
    assert "Traceback" not in error
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train_examples": 161}, "train_examples must be at most its 160 train"),
        (
            {"eval_examples": 999},
            "eval_examples .* 160 train .*; eval_examples .* test .*; "
            "give --eval-examples 160$",
        ),
        (
            {"train_examples": 161, "map_examples": 200},
            "; give --train-examples 160 --map-examples 160$",
        ),
        ({"train_examples": None, "batch_size": 161}, "at most the training images of"),
        ({"train_examples": 20, "batch_size": 21}, "at most train_examples, 20"),
    ],
)
def test_a_set_that_is_too_small(changes, words, npz):
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(sgdr.PRESETS["smoke"], dataset=npz, **SMALL | changes)


def test_a_split_to_test_on_that_is_missing():
    with pytest.raises(ValueError, match="test_split must be a split of cifar10"):
        dataclasses.replace(
            sgdr.PRESETS["cifar10"], dataset="cifar10", test_split="validation"
        )
