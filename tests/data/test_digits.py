import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from sklearn.datasets import load_digits

from kd_heuristics import data
from kd_heuristics.data import digits

# SHA-256 of images and of labels (little-endian): the same bytes on every machine.
DIGESTS = {
    "train": (
        "17a5e21396291fd626bf8d77934202ef2402909691f62d89f103b90f6f64e6a5",
        "f486c5ec24640dc8f60d7b1b3f34038a365378f61c45eabb27db072328744fae",
    ),
    "validation": (
        "7f495fb5cb9775b8c94fc37eebea21ef88c84f287d3cfe21e9d25a7f2b7e7283",
        "d292fa4dc3125da4d55150443e7365870a7e808fc945aa5decda0a1e622fdd58",
    ),
    "test": (
        "a7d911c5a6649a1121bcb178329bdd8922e70c72cbfcf7182a3e5138a31d0b02",
        "74cc47bfe56de9727a66667c92eb7f3a3097a3866c625b96bc96ad60faf237c2",
    ),
}
COUNTS = {"train": 1197, "validation": 200, "test": 400}


@pytest.mark.parametrize("split", DIGESTS)
def test_bytes(split):
    dataset = data.load("digits", split)
    digests = (dataset.images, dataset.labels.astype("<i4"))
    digests = tuple(hashlib.sha256(array.tobytes()).hexdigest() for array in digests)
    assert digests == DIGESTS[split]
    assert dataset.images.shape == (COUNTS[split], 8, 8, 1)
    assert (dataset.num_classes, dataset.name) == (10, "digits")


def test_splits_share_no_digit_and_leave_none_out():
    parts = [digits.raw(split) for split in DIGESTS]
    found = np.concatenate([pixels.reshape(-1, 64) for pixels, _ in parts])
    found = np.column_stack([found, np.concatenate([labels for _, labels in parts])])
    everything = load_digits()
    expected = np.column_stack([everything.data, everything.target])
    # As multisets: some digits of the set may be equal.
    assert sorted(map(tuple, found)) == sorted(map(tuple, expected))


def test_each_split_has_every_class_in_plenty():
    for split, count in COUNTS.items():
        _, labels = digits.raw(split)
        counts = np.bincount(labels, minlength=10)
        # The set has 174..183 of each class; 6 standard deviations of a random part.
        assert np.abs(counts - count / 10).max() < 6 * np.sqrt(count * 0.09)


def test_own_size_is_the_digits_with_another_scale():
    raw, _ = digits.raw("test")
    images = data.load("digits", "test").images[..., 0]
    np.testing.assert_array_equal(images, np.floor(raw * 255 / 16 + 0.5))


@settings(derandomize=True, deadline=None, max_examples=15)
@given(size=st.integers(8, 100), seed=st.integers(0, 2**31))
def test_enlarging_is_bilinear_with_pixel_centres(size, seed):
    values = np.random.RandomState(seed % 2**32).randint(0, 17, (2, 8, 8))
    position = (np.arange(size) + 0.5) * 8 / size - 0.5
    where = np.meshgrid(position, position, indexing="ij")
    enlarged = digits.enlarge(values, size)
    assert enlarged.shape == (2, size, size)
    for image, found in zip(values, enlarged, strict=True):
        exact = ndimage.map_coordinates(
            image.astype(float), where, order=1, mode="nearest"
        )
        # Half a unit is the rounding; the rest is the oracle's own float64.
        assert np.abs(found - exact * 255 / 16).max() <= 0.5 + 1e-9


def test_halves_round_up():
    # 8 / 16 * 255 = 127.5
    assert (digits.enlarge(np.full((1, 8, 8), 8), 13) == 128).all()


def test_digits_do_not_shrink():
    with pytest.raises(ValueError, match="at least 8, the digits' own, got 7"):
        digits.enlarge(np.zeros((1, 8, 8), int), 7)
