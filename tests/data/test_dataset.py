import dataclasses

import numpy as np
import pytest

from kd_heuristics import data

IMAGES = np.arange(3 * 4 * 4, dtype=np.uint8).reshape(3, 4, 4, 1)
LABELS = np.array([0, 1, 1], np.int32)


def test_take_keeps_the_head():
    dataset = data.Dataset(IMAGES, LABELS, 2, "three")
    head = dataset.take(2)
    assert (len(dataset), len(head), head.num_classes, head.name) == (3, 2, 2, "three")
    np.testing.assert_array_equal(head.images, IMAGES[:2])
    np.testing.assert_array_equal(head.labels, [0, 1])
    assert len(dataset.take(None)) == 3


@pytest.mark.parametrize("count", [0, -1, 4])
def test_take_of_an_impossible_count(count):
    with pytest.raises(ValueError, match=f"the set 'three' has 3 .* got {count}"):
        data.Dataset(IMAGES, LABELS, 2, "three").take(count)


def test_it_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        data.Dataset(IMAGES, LABELS, 2).num_classes = 3  # pyrefly: ignore


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"images": IMAGES.astype(np.float32)},
            r"images .* uint8 .* got float32; conv",
        ),
        ({"images": IMAGES[..., 0]}, r"got \(3, 4, 4\); .* batch axis: images\[None\]"),
        ({"images": IMAGES[0, 0]}, r"\[batch, height, width, channels\], got \(4, 1\)"),
        (
            {"images": np.zeros((3, 3, 8, 9), np.uint8)},
            r"channels come first; .*images\.transpose\(0, 2, 3, 1\)",
        ),
        ({"images": np.zeros((3, 1, 28, 28), np.uint8)}, "channels come first"),
        ({"images": IMAGES[:2]}, "2 images but 3 labels"),
        ({"images": IMAGES[:, :0]}, "no pixels"),
        ({"images": IMAGES[:0], "labels": LABELS[:0]}, "no pixels"),
        ({"labels": LABELS.astype(np.float32)}, r"integers \[n\], got float32 \[3\]"),
        ({"labels": LABELS.astype(bool)}, r"integers \[n\], got bool \[3\]"),
        ({"labels": LABELS[:, None]}, r"got int32 \[3, 1\]; .*argmax"),
        ({"labels": LABELS + np.int64(2**32)}, r"0\.\.1, got 4294967296\.\.4294967297"),
        ({"labels": LABELS + 1}, r"0\.\.1, got 1\.\.2"),
        ({"labels": LABELS - 1}, r"0\.\.1, got -1\.\.0"),
        ({"num_classes": -1}, "negative, got -1"),
        ({"num_classes": 0}, r"all be -1; got 0\.\.1"),
    ],
)
def test_fields_that_do_not_fit(changes, message):
    fields = {"images": IMAGES, "labels": LABELS, "num_classes": 2} | changes
    with pytest.raises(ValueError, match=message):
        data.Dataset(**fields)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int64", "uint64"])
def test_labels_are_integers_of_any_type(dtype):
    dataset = data.Dataset(IMAGES, LABELS.astype(dtype), 2)
    assert dataset.labels.dtype == np.int32
    np.testing.assert_array_equal(dataset.labels, LABELS)
    batch = data.train_batches(dataset, 2)(0, 0)
    assert batch["labels"].dtype == np.int32


def test_numbers_of_numpy_are_numbers():
    three = data.Dataset(IMAGES, LABELS, 2)
    assert len(three.take(np.int64(2))) == 2
    with pytest.raises(TypeError, match=r"count must be an integer, got 2\.0"):
        data.Dataset.take.__wrapped__(three, 2.0)


def test_without_classes_there_are_no_labels():
    unlabelled = np.full(3, data.UNLABELLED, np.int32)
    assert data.Dataset(IMAGES, unlabelled, 0).num_classes == 0
