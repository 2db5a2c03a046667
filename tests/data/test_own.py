"""One's own images: arrays, an npz, a folder and sets of tfds by name."""

import gc
import io
import pathlib
import re
import warnings

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from kd_heuristics import data
from tests.data import make_cifar10_fixture, prepared_fixture

INTEGERS = ["int8", "uint8", "int16", "int32", "uint32", "int64", "uint64", ">i4"]
FLOATS = ["float16", "float32", "float64", ">f4"]


def pictures(count, side=6, channels=3, seed=0):
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (count, side, side, channels), np.uint8)


def labels(count, classes=3):
    return np.arange(count) % classes


def good():
    """Arrays of a file with splits; images of a split share no pixel values."""
    return {
        "train_images": pictures(12),
        "train_labels": labels(12),
        "validation_images": pictures(5, seed=1),
        "validation_labels": labels(5),
        "test_images": pictures(4, seed=2),
        "test_labels": labels(4),
    }


def saved(path, **changes):
    path = path / "own.npz"
    np.savez(path, **changes)
    return path


def refused(name, words, split="train"):
    """Loading and describing say the words, in one line."""
    with pytest.raises(data.BadDataError, match=words) as caught:
        data.load(name, split)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@hypothesis.given(
    levels=arrays.arrays(
        np.uint8, st.tuples(st.just(4), *[st.integers(1, 5)] * 2, st.sampled_from([3]))
    ),
    kind=st.sampled_from(FLOATS),
    label_kind=st.sampled_from(INTEGERS),
)
def test_floats_become_the_levels_they_came_from(levels, kind, label_kind):
    hypothesis.assume(levels.shape[1] > 1)
    images = (levels.astype(np.float64) / 255).astype(kind)
    found = data.from_arrays(images, np.array([0, 1, 2, 1], label_kind))
    np.testing.assert_array_equal(found.images, levels)
    assert found.images.dtype == np.uint8
    assert found.labels.dtype == np.int32
    assert (found.labels.tolist(), found.num_classes) == ([0, 1, 2, 1], 3)


def test_every_level_in_half_precision():
    levels = np.arange(256, dtype=np.uint8).reshape(2, 8, 8, 2)
    images = (levels / 255).astype(np.float16)
    assert (data.from_arrays(images, [0, 1]).images == levels).all()


@pytest.mark.parametrize(
    ("images", "own", "classes", "words"),
    [
        (
            pictures(4) / 1.0,
            labels(4),
            None,
            r"are floats and must lie in \[0, 1\], got 0",
        ),
        (pictures(4) / 127.5 - 1, labels(4), None, r"got -1\.\.1"),
        (np.full((4, 6, 6, 3), np.nan), labels(4), None, "got nan"),
        (np.full((4, 6, 6, 3), np.inf), labels(4), None, r"got inf"),
        (pictures(4).astype(int), labels(4), None, r"astype\('uint8'\)"),
        (pictures(4) > 9, labels(4), None, "got bool"),
        (pictures(4).transpose(0, 3, 1, 2), labels(4), None, "channels come first"),
        (pictures(4)[..., 0], labels(4), None, r"images\[\.\.\., None\]"),
        (pictures(4)[0, 0, 0], labels(3), None, "height, width, channels"),
        (labels(4), pictures(4), None, "swapped"),
        (pictures(4), labels(5), None, "images .*number 4, but .*labels .*5"),
        (pictures(0), labels(0), None, "no pixels"),
        (pictures(4), labels(4) / 1.0, None, "integers"),
        (pictures(4), np.eye(4, dtype=int), None, "argmax"),
        (pictures(4), labels(4) - 1, None, r"0\.\.1, got -1\.\.1; number"),
        (pictures(4), labels(4) - 9, None, r"got -9\.\.-7"),
        (pictures(4), labels(4), 2, r"must lie in 0\.\.1, got 0\.\.2"),
        (pictures(4), labels(4, 1), None, "one class"),
    ],
)
def test_arrays_of_another_form(images, own, classes, words, tmp_path):
    with pytest.raises(data.BadDataError, match=words) as caught:
        data.from_arrays(images, own, classes)
    assert "\n" not in str(caught.value)
    if classes is None:  # a file says the same, with its name
        pair = {"images": images, "labels": own}
        content = {f"{s}_{k}": v for k, v in pair.items() for s in ("train", "test")}
        path = saved(tmp_path, **content)
        assert str(path) in refused(path, words)


@pytest.mark.parametrize("classes", [1, 0, -1])
def test_a_classifier_has_two_classes(classes):
    with pytest.raises(ValueError, match="num_classes must be at least 2"):
        data.from_arrays(pictures(4), labels(4, 1), classes)


def test_more_classes_than_labels_are_as_given():
    assert data.from_arrays(pictures(4), labels(4), np.int64(9)).num_classes == 9


def test_a_file_with_splits_is_read_as_it_is(tmp_path):
    path = saved(tmp_path, **good(), notes=np.array("anything"))
    about = data.describe(path)
    assert dict(about.examples) == {"train": 12, "validation": 5, "test": 4}
    assert (about.num_classes, about.shape) == (3, (6, 6, 3))
    for split in about.examples:
        found = data.load(str(path), split)
        np.testing.assert_array_equal(found.images, good()[f"{split}_images"])
        np.testing.assert_array_equal(found.labels, good()[f"{split}_labels"])
        assert (found.num_classes, found.name) == (3, str(path))
    assert data.default_augmentation(path) == {"padding": 0, "flip": False}
    assert data.default_augmentation(path, 33) == {"padding": 4, "flip": False}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [2, 9])
def test_a_size_cuts_squares(channels, size, tmp_path):
    flat = np.broadcast_to(
        np.arange(20, dtype=np.uint8)[:, None, None, None], (20, 4, 7, channels)
    )
    path = saved(tmp_path, images=flat, labels=labels(20))
    found = data.load(path, "train", size)
    assert found.images.shape == (16, size, size, channels)
    assert data.describe(path, size).shape == found.images.shape[1:]
    # A flat image stays flat, in the split's order.
    values = data.load(path, "train").images[:, 0, 0, 0]
    assert (found.images == values[:, None, None, None]).all()


@hypothesis.given(count=st.integers(10, 60))
@hypothesis.settings(
    max_examples=20,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
def test_one_pair_is_split_without_loss(count, tmp_path):
    images = np.zeros((count, 2, 2, 1), np.uint8)
    images[:, 0, 0, 0] = np.arange(count)
    path = saved(tmp_path, images=images, labels=np.arange(count))
    about = data.describe(path)
    assert about.num_classes == count
    seen = []
    parts = data.split(data.from_arrays(images, np.arange(count)))
    assert list(parts) == list(about.examples)
    for split, number in about.examples.items():
        found = data.load(path, split)
        np.testing.assert_array_equal(parts[split].labels, found.labels)
        np.testing.assert_array_equal(parts[split].images, found.images)
        assert len(found) == number
        np.testing.assert_array_equal(found.images[:, 0, 0, 0], found.labels)
        again = data.load(path, split)
        np.testing.assert_array_equal(again.labels, found.labels)
        seen += found.labels.tolist()
    assert sorted(seen) == list(range(count))
    assert seen != sorted(seen)
    held = count // 10
    assert list(about.examples.values()) == [count - 2 * held, held, held]


def without(*names):
    return {key: value for key, value in good().items() if key not in names}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (without("train_labels"), "so train_labels is missing"),
        (without("test_images", "test_labels"), "test_images, test_labels are missing"),
        (without("validation_labels"), "validation_labels is missing"),
        ({"x_train": pictures(3), "y_train": labels(3)}, "it has x_train, y_train"),
        ({"images": pictures(12)}, "labels is missing"),
        ({}, "no arrays"),
        (
            good() | {"train_images": labels(12), "train_labels": pictures(12)},
            "train_images of .* swapped",
        ),
        (good() | {"test_labels": labels(5)}, "test_images of .* 4, but .* 5"),
        (good() | {"test_labels": labels(4, 4)}, r"in 0\.\.2, as train_labels .* do"),
        (good() | {"test_images": pictures(4, 7)}, "must have one shape"),
        (good() | {"test_labels": labels(4) - 1}, r"test_labels of .* got -1"),
        (good() | {"train_labels": labels(12, 1) + 4}, "one class, 4"),
        ({"images": pictures(9), "labels": labels(9)}, "at least 10"),
        ({"images": pictures(12), "labels": np.array([None] * 12)}, "Object arrays"),
    ],
)
def test_files_of_another_form(content, words, tmp_path):
    with (tmp_path / "own.npz").open("wb") as file:
        np.savez(file, **content)
    refused(tmp_path / "own.npz", words)
    with pytest.raises(data.BadDataError, match=words):
        data.describe(tmp_path / "own.npz")


def test_a_file_that_is_none(tmp_path):
    refused(tmp_path / "none.npz", "there is no .*none.npz; it must be an .npz")
    for content in (b"", b"PK\3\4 no more", b"text"):
        (tmp_path / "own.npz").write_bytes(content)
        refused(tmp_path / "own.npz", "must be an .npz with train_images")


def test_a_damaged_file(tmp_path):
    large = {"train_images": pictures(400), "train_labels": labels(400)}
    path = saved(tmp_path, **good() | large)
    content = bytearray(path.read_bytes())
    content[20_000:20_010] = bytes(10)  # of the training images
    path.write_bytes(content)
    refused(path, "must be an .npz with train_images")
    assert len(data.load(path, "test")) == 4


def test_a_split_that_own_images_do_not_have(tmp_path):
    path = saved(tmp_path, **without("validation_images", "validation_labels"))
    refused(path, "no validation split; it has train, test", "validation")
    with pytest.raises(ValueError, match="did you mean 'train'"):
        data.load(path, "trian")


def encoded(pixels, form="PNG"):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


def write(folder, classes, count=10, shape=(6, 6, 3), seed=0):
    """PNG files of each class; the first pixel is the class's and the file's number."""
    random = np.random.default_rng(seed)
    for number, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            pixels = random.integers(0, 256, shape, np.uint8)
            pixels[0, 0] = number, index, 0
            (folder / name / f"{index}.png").write_bytes(encoded(pixels))
    return folder


def test_a_folder_of_classes(tmp_path):
    write(tmp_path, ["cat", "ant", "bee"])
    (tmp_path / ".cache").mkdir()
    (tmp_path / "cat" / ".DS_Store").touch()
    (tmp_path / "README.txt").touch()
    about = data.describe(tmp_path)
    assert dict(about.examples) == {"train": 24, "validation": 3, "test": 3}
    assert (about.num_classes, about.shape) == (3, (6, 6, 3))
    seen = []
    for split in about.examples:
        found = data.load(tmp_path, split)
        classes = np.array([2, 0, 1])[found.images[:, 0, 0, 0]]  # ant, bee, cat
        if split == "train":  # the order is not the classes'
            assert (np.diff(found.labels) < 0).any()
        # written as cat 0, ant 1, bee 2; sorted as ant 0, bee 1, cat 2
        np.testing.assert_array_equal(found.labels, classes)
        seen += [tuple(pixel) for pixel in found.images[:, 0, 0].tolist()]
    assert sorted(seen) == [(c, i, 0) for c in range(3) for i in range(10)]


def test_a_folder_of_splits(tmp_path):
    for seed, split in enumerate(("train", "test")):
        write(tmp_path / split, ["a", "b"], 4 - seed, seed=seed)
    assert dict(data.describe(tmp_path).examples) == {"train": 8, "test": 6}
    found = data.load(tmp_path, "test")
    np.testing.assert_array_equal(found.labels, found.images[:, 0, 0, 0])
    refused(tmp_path, "no validation split", "validation")
    write(tmp_path / "validation", ["b", "c"])
    refused(tmp_path, "the class 'c', which .*train does not have")


def test_classes_may_be_called_as_splits_are(tmp_path):
    write(tmp_path, ["train", "test"])
    assert data.describe(tmp_path).num_classes == 2
    assert len(data.load(tmp_path, "train")) == 16


def test_sizes_that_differ_are_cut(tmp_path):
    write(tmp_path, ["a", "b"])
    jpeg = np.full((9, 30, 3), 77, np.uint8)
    (tmp_path / "b" / "new.JPG").write_bytes(encoded(jpeg, "JPEG"))
    splits = ("train", "validation", "test")
    found = [data.load(tmp_path, split, 4).images for split in splits]
    assert [len(images) for images in found] == [17, 2, 2]
    assert sum((images == 77).all((1, 2, 3)).sum() for images in found) == 1
    words = []
    for split in splits:
        try:
            data.load(tmp_path, split)
        except data.BadDataError as error:
            words.append(str(error))
    assert words
    assert re.search("differ in size, .*9x30.* give size to cut squares", words[0])


def no_class(folder):
    for name in ("a", "b"):
        for file in (folder / name).iterdir():
            file.unlink()
        (folder / name).rmdir()


def one_class(folder):
    for file in (folder / "b").iterdir():
        file.unlink()
    (folder / "b").rmdir()


def empty_class(folder):
    (folder / "c").mkdir()


def broken(folder):
    for name in ("a", "b"):
        for file in (folder / name).iterdir():
            file.write_bytes(file.read_bytes()[:60])


def other_file(folder):
    (folder / "a" / "labels.txt").touch()


def nested(folder):
    (folder / "a" / "more").mkdir()


def few(folder):
    for name in ("a", "b"):
        for index in range(4, 10):
            (folder / name / f"{index}.png").unlink()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (no_class, "must hold a folder of PNG or JPEG images for each class"),
        (one_class, "has one class folder, 'a'"),
        (empty_class, "c holds no images"),
        (broken, r"\.png cannot be read as an image"),
        (other_file, "labels.txt is not a PNG or JPEG"),
        (nested, "more is not a PNG or JPEG image; class folders must hold only such"),
        (few, "has 8 images, too few"),
    ],
)
def test_folders_of_another_form(damage, words, tmp_path):
    write(tmp_path, ["a", "b"])
    damage(tmp_path)
    refused(tmp_path, words)


def test_one_broken_image(tmp_path):
    write(tmp_path, ["a", "b"])
    name = tmp_path / "b" / "3.png"
    name.write_bytes(name.read_bytes()[:-40])
    wrong = []
    for split in ("train", "validation", "test"):
        try:
            data.load(tmp_path, split)
        except data.BadDataError as error:
            wrong.append(str(error))
    assert len(wrong) == 1
    assert wrong[0].startswith(f"{name} cannot be read as an image")


def test_a_folder_in_the_current_one_and_a_set_of_ours(tmp_path, monkeypatch):
    write(tmp_path / "photos", ["a", "b"])
    write(tmp_path / "digits", ["a", "b"])
    monkeypatch.chdir(tmp_path)
    assert data.load("photos", "train").num_classes == 2
    assert data.load("digits", "train").num_classes == 10
    assert data.load("./digits", "train").num_classes == 2
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data.load("~/photos", "train").num_classes == 2
    with pytest.raises(ValueError, match="unknown dataset 'photo'"):
        data.load("photo", "train")


def test_a_set_of_tfds_without_validation(monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(make_cifar10_fixture.FIXTURES))
    about = data.describe("tfds:cifar10")
    assert dict(about.examples) == {"train": 234, "validation": 26, "test": 70}
    assert (about.num_classes, about.shape) == (10, (32, 32, 3))
    for split in about.examples:
        found = data.load("tfds:cifar10", split)
        own = data.load("cifar10_holdout", split)
        np.testing.assert_array_equal(found.images, own.images)
        np.testing.assert_array_equal(found.labels, own.labels)
        assert found.name == "tfds:cifar10"
    assert data.load("tfds:cifar10", "test", 16).images.shape == (70, 16, 16, 3)
    assert data.default_augmentation("tfds:cifar10") == {"padding": 4, "flip": False}
    view = data.views.create("same/ic", teacher_size=16)
    stream = data.stream("tfds:cifar10", "train", 4, 0, view=view)
    assert (stream.num_examples, stream.num_classes) == (234, 10)
    assert stream(0)["student"].shape == (4, 16, 16, 3)


def test_a_set_of_tfds_with_a_configuration(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    counts = {"train": 12, "validation": 4, "test": 3}
    prepared_fixture.write(tmp_path, "sun397", counts)
    about = data.describe("tfds:sun397:tfds")
    assert dict(about.examples) == counts
    assert (about.num_classes, about.shape) == (397, (128, 128, 3))
    assert data.load("tfds:sun397:tfds", "test", 8).images.shape == (3, 8, 8, 3)
    with pytest.raises(data.BadDataError, match="name one of them: tfds:sun397:tfds"):
        data.describe("tfds:sun397")


def prepare(folder, name, features, splits):
    """A set of our own making, as tfds stores it."""
    import tensorflow_datasets as tfds

    class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            kinds = tfds.features.FeaturesDict(features)
            return tfds.core.DatasetInfo(builder=self, features=kinds)

        def _split_generators(self, _):
            return {split: enumerate(own) for split, own in splits.items()}

        def _generate_examples(self):
            raise NotImplementedError

    Builder.name = name
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        Builder(data_dir=folder).download_and_prepare(file_format="array_record")
        gc.collect()


def test_sets_of_tfds_of_another_form(tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    image, kind = tfds.features.Image(shape=(8, 8, 1)), tfds.features.ClassLabel
    examples = [
        {"image": io.BytesIO(encoded(np.full((8, 8), i, np.uint8))), "label": i % 2}
        for i in range(20)
    ]
    features = {"image": image, "label": kind(num_classes=2)}
    prepare(tmp_path, "grey", features, {"train": examples})
    assert dict(data.describe("tfds:grey").examples) == {"train": 18, "validation": 2}
    found = data.load("tfds:grey", "validation")
    assert found.images.shape == (2, 8, 8, 3)
    with pytest.raises(ValueError, match="no test split"):
        data.load("tfds:grey", "test")
    prepare(tmp_path, "untrained", features, {"test": examples})
    with pytest.raises(data.BadDataError, match="splits test; a set needs train"):
        data.load("tfds:untrained", "test")
    numbers = [{"image": e["image"], "weight": 1} for e in examples]
    features = {"image": image, "weight": np.int64}
    prepare(tmp_path, "weights", features, {"train": numbers})
    with pytest.raises(data.BadDataError, match="features image, weight; a set needs"):
        data.describe("tfds:weights")


@pytest.mark.parametrize("name", ["tfds:", "tfds:a:b:c", "tfds:../a", "tfds::a"])
def test_names_of_tfds_that_are_none(name):
    with pytest.raises(data.BadDataError, match="write tfds:NAME or tfds:NAME:CONFIG"):
        data.load(name, "train")


def test_a_set_of_tfds_that_is_not_prepared(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    for name, command in (
        ("tfds:mnist", "tfds build mnist --file_format=array_record"),
        ("tfds:cifar10", "kd-heuristics prepare cifar10"),
    ):
        with pytest.raises(data.MissingDatasetError, match=command):
            data.describe(name)


def test_the_example_of_the_docs(tmp_path, monkeypatch, capsys):
    page = pathlib.Path(__file__).parents[2] / "docs" / "own_data.md"
    (block,) = re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    scope: dict = {}
    exec(compile(block, page.name, "exec"), scope)
    assert capsys.readouterr().out == "160 4 (32, 32, 3)\n"
    np.testing.assert_array_equal(scope["same"].images, scope["images"])
