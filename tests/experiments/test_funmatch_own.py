"""FunMatch on a user's own images, student and teacher."""

import dataclasses
import json
import sys
import textwrap

import numpy as np
import pytest

import experiments.funmatch
from experiments.common import launch
from experiments.funmatch import lengths, materials, study
from experiments.funmatch.config import PRESETS
from kd_heuristics import data, models, report, runs
from kd_heuristics.runtime import memory
from tests.experiments import planned
from tests.experiments.test_own_models import forget

NETS = """
    import jax
    from kd_heuristics import models

    def make(num_classes, channels=3, size=None):
        def init(key, images):
            pixels = size * size * channels if size else images[0].size
            kernel = 0.01 * jax.random.normal(key, (pixels, num_classes))
            return {"params": {"kernel": kernel}}

        def apply(variables, images):
            return images.reshape(len(images), -1) @ variables["params"]["kernel"]

        return models.from_functions("net", init, apply)

    def wide(num_classes):
        return make(num_classes + 1)

    def fixed(num_classes):
        return make(num_classes, size=16)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with nets.py and own.npz, as the working directory."""
    forget()
    (tmp_path / "nets.py").write_text(textwrap.dedent(NETS))
    sets = images()
    np.savez(
        tmp_path / "own.npz",
        **{f"{split}_images": own.images for split, own in sets.items()},
        **{f"{split}_labels": own.labels for split, own in sets.items()},
    )
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    forget()


def images(side=24, splits=("train", "validation", "test"), channels=3):
    random = np.random.default_rng(0)
    found = {}
    for split in splits:
        count = 64 if split == "train" else 12
        pixels = random.integers(0, 256, (count, side, side, channels), np.uint8)
        found[split] = data.Dataset(pixels, np.arange(count) % 3, 3, "mine")
    return found


def smallest(**changes):
    fields = {"held_examples": None, "model": "nets.py:make", "teacher": "nets.py:make"}
    return dataclasses.replace(PRESETS["smoke"], **fields | changes)


def check(run, own):
    """The run asks the paper's question of the user's, without its numbers."""
    described = json.loads((run / "config.json").read_text())
    assert {part: its["name"] for part, its in described["own"].items()} == own
    results = json.loads((run / "results.json").read_text())
    for claims in (described["claims"], results["claims"]):
        assert {claim["paper"] for claim in claims} == {None}
    for file in (run / "figures").glob("*.json"):
        titles = [panel["title"] for panel in json.loads(file.read_text())["panels"]]
        assert not [title for title in titles if "paper" in title.lower()]
    page = report.write(run.parent).read_text()
    assert ">paper: " not in page
    return page


def test_a_file_and_functions_by_name_then_from_python(folder):
    config = smallest(dataset="own.npz")
    run = launch.run(study.STUDY, config, folder / "named" / "funmatch")
    planned.check(study.STUDY, run, config)
    names = {"model": "nets.py:make", "teacher": "nets.py:make", "dataset": "own.npz"}
    assert "nets.py:make teaches nets.py:make on own.npz" in check(run, names)
    assert "own_nets" in json.loads((run / "code.json").read_text())

    network = models.create("nets.py:make", 3)
    there = folder / "python" / "funmatch"
    run = experiments.funmatch.run(smallest(), there, network, images(24))
    names = {"model": "own network net", "teacher": "nets.py:make"}
    check(run, names | {"dataset": "own dataset mine"})
    described = json.loads((run / "config.json").read_text())["own"]
    assert described["model"]["parameters"] == 16 * 16 * 3 * 3  # the student's crops
    with pytest.raises(runs.RunError, match=r"own\.dataset\.train\.sha256"):
        experiments.funmatch.run(smallest(), there, network, images(26))

    # Another process, after an edit of the user's file.
    forget()
    (folder / "nets.py").write_text(textwrap.dedent(NETS).replace("0.01", "0.02"))
    with pytest.raises(runs.CodeChangedError, match="own_nets"):
        launch.run(study.STUDY, config, folder / "named" / "funmatch")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["--streamed"], "got own.npz, which is read whole; leave streamed out"),
        (
            ["--other-arms", "related"],
            "the arm 'related' needs a dataset of similar images in the field related",
        ),
        (
            ["--others", "digits", "--other-arms", "others"],
            "others must have images of 3 channels, as own.npz has, got digits with 1",
        ),
        (["--dataset", "cifar10"], "must have a validation split, got cifar10"),
        (["--batch-size", "65"], "batch_size must be at most train_examples, 64"),
        (["--warmup-steps", "3"], "0..1 for a training of 2 steps, got 3"),
        (["--rows", "mix@3"], "did you mean 'mix@4'? Valid: fix/cc@2, fix/cc@4, mix@2"),
        (["--model", "nets.py:mak"], "has no function 'mak'; did you mean 'make'"),
        (["--teacher", "none.py:make"], "there is no file"),
        (
            ["--dataset", "oxford_flowers102", "--streamed", "--held-examples", "9"],
            "streamed trains on all images, so train_examples must be None, got 64",
        ),
    ],
)
def test_the_command_line_refuses_in_words(changes, words, folder, monkeypatch, capsys):
    given = ["--preset", "smoke", "--dataset", "own.npz", "--held-examples", "None"]
    given += ["--model", "nets.py:make", "--workdir", "run", *changes]
    monkeypatch.setattr(sys, "argv", ["funmatch", *given])
    with pytest.raises(SystemExit) as caught:
        launch.main(study.STUDY)
    error = capsys.readouterr().err
    assert caught.value.code == 2
    assert words in error
    assert "Traceback" not in error
    assert not (folder / "run").exists()


@pytest.mark.parametrize(
    ("changes", "dataset", "words"),
    [
        ({"model": "nets.py:wide"}, images(), r"logits \(4,\), but the set has 3"),
        (
            {"teacher": "nets.py:fixed"},
            images(),
            r"teacher net on images \(32, 32, 3\) fails with TypeError",
        ),
        ({}, images(splits=("train", "test")), "no split 'validation'"),
        ({"train_examples": 64, "batch_size": 33}, None, None),
    ],
)
def test_what_does_not_fit_leaves_no_folder(changes, dataset, words, folder):
    if words is None:
        small = {split: own.take(12) for split, own in images().items()}
        dataset, words = small, "'mine' has 12 examples"
    with pytest.raises(ValueError, match=words):
        experiments.funmatch.run(smallest(**changes), "run", None, dataset)
    assert not (folder / "run").exists()


def test_a_teacher_given_from_python_teaches(folder):
    network = models.create("nets.py:make", 3)
    config = smallest(train_examples=None, teacher_examples=None)
    its = materials.make(config, materials.Own.of(None, images(), network))
    assert its.classifiers["teacher"].network is network
    other = models.create("nets.py:fixed", 3)
    words = r"teacher net on images \(32, 32, 3\) fails with TypeError"
    with pytest.raises(ValueError, match=words):
        experiments.funmatch.run(config, "run", None, images(), other)
    assert not (folder / "run").exists()


def test_a_stream_takes_no_images_of_the_users(folder):
    changes = {"train_examples": None, "teacher_examples": None, "streamed": True}
    config = smallest(dataset="oxford_flowers102", **changes)
    with pytest.raises(ValueError, match="in memory; set streamed=False"):
        experiments.funmatch.run(config, "run", None, images())


def test_grey_images_have_one_channel_of_statistics(folder):
    config = smallest(train_examples=None, teacher_examples=None)
    own = materials.Own.of(None, images(channels=1))
    materials.fit(config, own)


def test_targets_that_exceed_the_device_are_refused_in_words(monkeypatch):
    config = dataclasses.replace(
        PRESETS["imagenet"], main=("fix/ic_ens",), rows=("fix/ic_ens@30",)
    )
    needed = 4 * 1_255_544 * 1000
    assert study.STUDY.plan(config.resolved).stored == needed
    assert study.STUDY.plan(PRESETS["imagenet"].resolved).stored == 0
    monkeypatch.setattr(memory, "limit", lambda: needed)
    lengths.check_stored(config, 1_255_544, 1000)
    monkeypatch.setattr(memory, "limit", lambda: needed - 1)
    with pytest.raises(runs.RunError, match=r"1,255,544 images .* 4\.7 GiB"):
        lengths.check_stored(config, 1_255_544, 1000)
