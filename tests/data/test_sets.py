import subprocess
import sys

import pytest

from kd_heuristics import data
from kd_heuristics.data import digits, fashion_mnist, photo, tfds

NAMES = {
    "digits",
    "digits_photo",
    "photo_patches",
    "fashion_mnist",
    "fashion_mnist_holdout",
    "cifar10",
    "cifar10_holdout",
    "cifar100",
    "cifar100_holdout",
    "oxford_flowers102",
    "oxford_iiit_pet",
    "food101",
    "sun397",
    "imagenet2012",
    "imagenet2012_code",
    "caltech_birds2011",
    "caltech_birds2011_holdout",
}


@pytest.fixture
def nothing_read(monkeypatch):
    """Any reading fails: messages must come before it."""

    def fail(*_):
        raise AssertionError("the set was read")

    monkeypatch.setattr(digits, "raw", fail)
    monkeypatch.setattr(photo, "photographs", fail)
    monkeypatch.setattr(tfds, "find", fail)
    monkeypatch.setattr(fashion_mnist, "find", fail)


def test_names():
    assert set(data.names()) == NAMES


@pytest.mark.usefixtures("nothing_read")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("cifar11", "train"), "unknown dataset 'cifar11'; did you mean 'cifar10'"),
        (("digits_foto", "train"), "did you mean 'digits_photo'"),
        (("digits", "valid"), "split of digits 'valid'; did you mean 'validation'"),
        (("cifar10", "Train"), "did you mean 'train'"),
        (("cifar10", "validation"), "cifar10_holdout"),
        (("cifar100", "validation"), "cifar100_holdout"),
        (("caltech_birds2011", "validation"), "caltech_birds2011_holdout"),
        (("fashion_mnist", "validation"), "fashion_mnist_holdout"),
        (("fashion_mnist", "train", 33), r"did you mean 32\? Valid: 28\.\.32"),
        (("food101", "test", 513), r"did you mean 512\? Valid: 8\.\.512"),
        (("digits", "train", 7), r"size of digits 7; did you mean 8\? Valid: 8\.\.512"),
        (("digits_photo", "train", 129), r"did you mean 128\? Valid: 8\.\.128"),
        (("cifar10", "train", 64), r"size of cifar10 64; did you mean 32\? Valid: 32"),
    ],
)
def test_what_is_unknown_is_answered_before_reading(arguments, message):
    with pytest.raises(ValueError, match=message):
        data.load(*arguments)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("digits",), {"padding": 1, "flip": False}),
        (("digits", 32), {"padding": 4, "flip": False}),
        (("digits_photo",), {"padding": 4, "flip": False}),
        (("digits_photo", 96), {"padding": 12, "flip": False}),
        (("photo_patches",), {"padding": 4, "flip": False}),
        (("cifar10",), {"padding": 4, "flip": True}),
        (("fashion_mnist",), {"padding": 3, "flip": True}),
        (("fashion_mnist_holdout", 32), {"padding": 4, "flip": True}),
        (("cifar100_holdout",), {"padding": 4, "flip": True}),
        (("caltech_birds2011",), {"padding": 28, "flip": True}),
    ],
)
def test_default_augmentation(arguments, expected):
    assert data.default_augmentation(*arguments) == expected


def test_default_augmentation_of_an_unknown_set():
    with pytest.raises(ValueError, match="did you mean 'digits'"):
        data.default_augmentation("digit")


def test_bytes_do_not_depend_on_the_hash_seed():
    program = (
        "import hashlib; from kd_heuristics import data;"
        "images = data.load('digits_photo', 'validation').images;"
        "print(hashlib.sha256(images.tobytes()).hexdigest())"
    )
    found = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONHASHSEED": "12345", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.startswith("5d815208f6d9d94e2daaeb93af3660a2")


@pytest.mark.parametrize("name", ["digits", "digits_photo", "photo_patches"])
def test_a_description_is_what_is_loaded(name):
    found = data.describe(name, 16)
    assert [*found.examples] == ["train", "validation", "test"]
    for split, count in found.examples.items():
        loaded = data.load(name, split, 16)
        assert loaded.images.shape == (count, *found.shape)
        assert loaded.num_classes == found.num_classes


def test_descriptions_are_in_the_table_of_load():
    rows = [line.split("|") for line in data.load.__doc__.splitlines() if "|" in line]
    listed = {
        name.strip(): [cell.strip().replace(",", "") for cell in cells[:3]]
        for _, names, *cells in rows[2:]
        for name in names.split(",")
    }
    assert {*listed} == {*data.names()}
    for name, cells in listed.items():
        examples = data.describe(name).examples
        expected = [
            str(examples.get(s, "none")) for s in ("train", "validation", "test")
        ]
        assert [
            e if c == "as before" else c for c, e in zip(cells, expected, strict=True)
        ] == expected
