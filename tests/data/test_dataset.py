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
        ({"images": IMAGES.astype(np.float32)}, r"images .* uint8 .* got float32"),
        ({"images": IMAGES[..., 0]}, r"\[n, h, w, c\], got uint8 \[3, 4, 4\]"),
        ({"images": IMAGES[:2]}, "2 images but 3 labels"),
        ({"images": IMAGES[:, :0]}, "no pixels"),
        ({"images": IMAGES[:0], "labels": LABELS[:0]}, "no pixels"),
        ({"labels": LABELS.astype(np.int64)}, r"int32 \[n\], got int64"),
        ({"labels": LABELS[:, None]}, r"got int32 \[3, 1\]"),
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


def test_without_classes_there_are_no_labels():
    unlabelled = np.full(3, data.UNLABELLED, np.int32)
    assert data.Dataset(IMAGES, unlabelled, 0).num_classes == 0
