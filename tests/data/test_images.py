"""Decoding and resizing: as TensorFlow 2.21 did it (see make_tensorflow_images.py)."""

import io
import pathlib

import numpy as np
import pytest
from PIL import Image

from kd_heuristics import data
from kd_heuristics.data import images, records
from tests.data import prepared_fixture as fixture

FILE = pathlib.Path(__file__).parents[1] / "fixtures" / "tensorflow_images.npz"
STORED = dict(np.load(FILE))
KINDS = [name.rsplit("/")[0] for name in STORED if name.endswith("/encoded")]
# TensorFlow's fast transform of JPEG's blocks is off by up to 3 of 255.
JPEG = ("grey jpeg", "rgb jpeg", "inks", "inks unmarked", "inks ycck")


def overlaps(start, length, size, pixels):
    """How much of each output pixel's part of the line lies in each input pixel."""
    edges = start + np.arange(size + 1) * length / size
    low = np.maximum(edges[:-1, None], np.arange(pixels))
    high = np.minimum(edges[1:, None], np.arange(1, pixels + 1))
    return np.maximum(high - low, 0) * size / length


def square(side):
    return np.random.RandomState(side).randint(0, 256, (side, side, 3), np.uint8)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_image_is_decoded_as_tensorflow_does(kind):
    found = images.decode(STORED[f"{kind}/encoded"].tobytes())
    assert found.dtype == np.uint8
    expected = STORED[f"{kind}/decoded"].astype(int)
    np.testing.assert_allclose(found, expected, atol=3 if kind in JPEG else 0)
    # Another reading of four inks, or of a palette, is further off than that.
    other = 255 - expected
    assert np.abs(found - other).max() > 20


@pytest.mark.parametrize("mode", ["F", "LAB"])
def test_what_has_no_eight_bit_colours_is_named_with_a_remedy(
    mode, tmp_path, monkeypatch
):
    file = io.BytesIO()
    Image.new(mode, (20, 20)).save(file, "TIFF")
    with pytest.raises(ValueError, match=f"mode {mode}.*save it as RGB"):
        images.decode(file.getvalue())

    def encoded(number):
        picture = fixture.encode(fixture.picture(number), form="PNG")
        return file.getvalue() if number == 1 else picture

    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    fixture.write(tmp_path, "food101", {"train": 10, "validation": 2}, encoded)
    found = records.Records("food101", "test")
    with pytest.raises(data.BadRecordError, match=r"record 0 of .*save it as RGB"):
        [found[index] for index in range(2)]


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [
        (300, 300, 160),
        (200, 200, 160),
        (333, 333, 224),
        (6, 10, 3),
        (7, 10, 3),
        (10, 7, 7),
        (9, 9, 9),
        (5, 64, 1),
        (131, 64, 63),
    ],
)
def test_a_shrunk_square_holds_means_weighted_by_overlap(height, width, size):
    pixels = np.random.RandomState(0).randint(0, 256, (height, width, 3), np.uint8)
    side = min(height, width)
    rows = overlaps((height - side) / 2, side, size, height)
    columns = overlaps((width - side) / 2, side, size, width)
    np.testing.assert_allclose(rows.sum(1), 1)
    means = np.einsum("yi,ijc,xj->yxc", rows, pixels, columns, optimize=True)
    found = images.central_square(pixels, size)
    np.testing.assert_allclose(found, means, atol=0.5 + 1e-9)


@pytest.mark.parametrize("name", [name for name in STORED if name.startswith("area")])
def test_a_shrunk_square_is_tensorflows_area(name):
    side, size = map(int, name.split()[1:])
    found = images.central_square(square(side), size).reshape(-1)[::101]
    # Rounded, of values that TensorFlow sums in float32.
    np.testing.assert_allclose(found, STORED[name], atol=0.5 + 0.005)


def test_a_square_may_grow():
    pixels = np.full((6, 10, 3), 7, np.uint8)
    np.testing.assert_array_equal(
        images.central_square(pixels, 9), np.full((9, 9, 3), 7)
    )
