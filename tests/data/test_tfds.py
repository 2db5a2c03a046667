import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from kd_heuristics import data
from kd_heuristics.data import tfds
from tests.data import make_cifar10_fixture as fixture

SHARD = "cifar10-train.array_record-00000-of-00001"


@pytest.fixture
def prepared(monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(fixture.FIXTURES))


@pytest.fixture
def copy(monkeypatch, tmp_path):
    """The folder of a version, to be damaged."""
    shutil.copytree(fixture.FIXTURES, tmp_path, dirs_exist_ok=True)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    return tmp_path / "cifar10" / "3.0.2"


@pytest.mark.usefixtures("prepared")
@pytest.mark.parametrize("split", ["train", "test"])
def test_pixels_and_labels(split):
    dataset = data.load("cifar10", split)
    count = fixture.COUNTS[split]
    pixels, labels = zip(
        *(fixture.example(split, i) for i in range(count)), strict=True
    )
    np.testing.assert_array_equal(dataset.images, np.stack(pixels))
    np.testing.assert_array_equal(dataset.labels, labels)
    assert (dataset.num_classes, dataset.name) == (10, "cifar10")


@pytest.mark.usefixtures("prepared")
def test_a_tenth_of_train_is_held_out():
    whole = data.load("cifar10", "train", 32)
    train, validation, test = (
        data.load("cifar10_holdout", split) for split in ("train", "validation", "test")
    )
    assert (len(train), len(validation)) == (234, 26)
    parts = np.concatenate([train.images, validation.images])
    np.testing.assert_array_equal(parts, whole.images)
    np.testing.assert_array_equal(test.images, data.load("cifar10", "test").images)


def test_tensorflow_is_not_imported():
    program = (
        "import sys; from kd_heuristics import data; data.load('cifar10', 'test');"
        "print([m for m in ('tensorflow', 'torch', 'cv2') if m in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ
        | {
            "TFDS_DATA_DIR": str(fixture.FIXTURES),
            "PYTHONPATH": os.pathsep.join(sys.path),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout == "[]\n"
    assert found.stderr == ""


@pytest.mark.parametrize("name", ["cifar10", "cifar10_holdout"])
def test_a_set_that_is_not_prepared(name, monkeypatch, tmp_path):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(data.MissingDatasetError) as caught:
        data.load(name, "train")
    message = str(caught.value)
    assert isinstance(caught.value, FileNotFoundError)
    assert str(tmp_path / "cifar10") in message
    assert "kd-heuristics prepare cifar10\n" in message + "\n"
    assert "not set" not in message


def test_the_folder_of_tfds_is_the_default(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    with pytest.raises(data.MissingDatasetError, match="not set") as caught:
        data.load("cifar100", "test")
    assert str(tmp_path / "tensorflow_datasets" / "cifar100") in str(caught.value)


def test_of_several_versions_the_newest_is_read(copy):
    shutil.copytree(copy, copy.parent / "3.0.10")
    shutil.copytree(copy, copy.parent / "4.0.0")  # not finished
    (copy.parent / "4.0.0" / "dataset_info.json").unlink()
    assert tfds.find("cifar10").name == "3.0.10"


def test_a_set_in_another_format(copy):
    for path in copy.glob("*.array_record-*"):
        path.rename(copy / path.name.replace("array_record", "tfrecord"))
    with pytest.raises(data.MissingDatasetError, match="another format") as caught:
        data.load("cifar10", "train")
    assert "TFDS_DATA_DIR" in str(caught.value)
    assert "kd-heuristics prepare cifar10" in str(caught.value)


def remove(path):
    path.unlink()


def truncate(path):
    path.write_bytes(path.read_bytes()[:70_000])


def empty(path):
    path.write_bytes(b"")


def change(path):
    damaged = bytearray(path.read_bytes())
    damaged[3000] ^= 255
    path.write_bytes(damaged)


@pytest.mark.parametrize("damage", [remove, truncate, empty, change])
def test_a_damaged_shard(damage, copy):
    damage(copy / SHARD)
    with pytest.raises(data.MissingDatasetError, match="cannot be read") as caught:
        data.load("cifar10", "train")
    assert f"{copy} cannot be read" in str(caught.value)
    assert "kd-heuristics prepare cifar10" in str(caught.value)
    # The other split is whole.
    assert len(data.load("cifar10", "test")) == 70


def test_a_damaged_description(copy):
    (copy / "dataset_info.json").write_text("{")
    with pytest.raises(data.MissingDatasetError, match="cannot be read"):
        data.load("cifar10", "train")


def test_the_fixture_is_small_and_can_be_learned(prepared):
    files = list(fixture.FIXTURES.rglob("*"))
    assert sum(path.stat().st_size for path in files if path.is_file()) < 300_000
    train, test = data.load("cifar10", "train"), data.load("cifar10", "test")
    # The nearest mean colour of a class already tells most of them.
    colours = train.images.mean((1, 2))
    means = np.stack([colours[train.labels == label].mean(0) for label in range(10)])
    distance = np.linalg.norm(test.images.mean((1, 2))[:, None] - means, axis=-1)
    assert (distance.argmin(1) == test.labels).mean() > 0.7
