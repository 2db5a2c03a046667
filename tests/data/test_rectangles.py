import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kd_heuristics.data import rectangles

sides = st.integers(8, 500)


def draws_of(seed, count=64):
    return np.random.default_rng(seed).random((count, rectangles.NUM_DRAWS))


@settings(derandomize=True, deadline=None, max_examples=50)
@given(height=sides, width=sides, seed=st.integers(0, 99))
def test_inception_crops(height, width, seed):
    draws = draws_of(seed)
    top, left, tall, wide = rectangles.rectangle("inception", draws, height, width).T
    ratio = 3 / 4 + draws[:, 0] * (4 / 3 - 3 / 4)
    np.testing.assert_allclose(wide / tall, ratio)
    small = 1e-9
    assert (top >= -small).all()
    assert (left >= -small).all()
    assert (top + tall <= height + small).all()
    assert (left + wide <= width + small).all()
    share = tall * wide / (height * width)
    assert (share <= 1 + small).all()
    # Long images hold no crop of a ratio near 1 that covers 5 %.
    fits = np.minimum(height, width / ratio) ** 2 * ratio / (height * width)
    assert (share >= np.minimum(0.05, fits) - small).all()


def test_an_inception_crop_by_hand():
    # 100 x 100, ratio 1: heights between sqrt(0.04) * 100 = 20 and 100.
    box = rectangles.rectangle(
        "inception",
        np.array([[0.5, 0.25, 0.5, 1.0]]),
        100,
        100,
        area=(0.04, 1.0),
        aspect=(0.5, 1.5),
    )
    np.testing.assert_allclose(box, [[30.0, 60.0, 40.0, 40.0]])


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("whole", [0.0, 0.0, 50.0, 20.0]),
        ("central", [17.0, 2.0, 16.0, 16.0]),
        ("mild", [34.0 * 0.5, 4.0 * 0.25, 16.0, 16.0]),
    ],
)
def test_other_rectangles(kind, expected):
    draws = np.array([[0.1, 0.9, 0.5, 0.25]])
    for height, width in ((50, 20), (np.array([50]), np.array([20]))):
        found = rectangles.rectangle(kind, draws, height, width, fraction=0.8)
        np.testing.assert_allclose(found, [expected])


@pytest.mark.parametrize("kind", rectangles.KINDS)
def test_hosts_and_devices_make_the_same(kind):
    draws = draws_of(3).astype(np.float32)
    host = rectangles.rectangle(kind, draws, 30, 40)
    device = rectangles.rectangle(kind, jnp.asarray(draws), 30, 40)
    assert isinstance(host, np.ndarray)
    np.testing.assert_allclose(device, host, rtol=1e-5, atol=1e-5)  # float32


def bilinear(image, box, size):
    """A loop over output pixels, in float64."""
    top, left, tall, wide = map(float, box)
    out = np.empty((size, size, image.shape[-1]))
    for y in range(size):
        for x in range(size):
            row = min(max(top + (y + 0.5) * tall / size - 0.5, top), top + tall - 1)
            col = min(max(left + (x + 0.5) * wide / size - 0.5, left), left + wide - 1)
            i, j = int(row), int(col)
            k, m = min(i + 1, len(image) - 1), min(j + 1, image.shape[1] - 1)
            a, b = row - i, col - j
            upper = (1 - b) * image[i, j] + b * image[i, m]
            lower = (1 - b) * image[k, j] + b * image[k, m]
            out[y, x] = (1 - a) * upper + a * lower
    return out


@pytest.mark.parametrize("size", [3, 9])
def test_cut(size):
    images = np.random.default_rng(0).integers(0, 256, (5, 10, 12, 3)).astype(np.uint8)
    boxes = rectangles.rectangle("inception", draws_of(1, 5), 10, 12)
    flipped = np.array([True, False, True, False, False])
    found = rectangles.cut(
        jnp.asarray(images), jnp.asarray(boxes, jnp.float32), size, jnp.asarray(flipped)
    )
    for image, box, mirror, one in zip(images, boxes, flipped, found, strict=True):
        expected = bilinear(image.astype(np.float64), box, size)
        expected = expected[:, ::-1] if mirror else expected
        np.testing.assert_allclose(one, expected, atol=1e-2)  # places in float32


@pytest.mark.parametrize("size", [3, 9])
def test_cut_on_a_host(size):
    random = np.random.default_rng(0)
    for draws, (height, width) in zip(
        draws_of(1, 4), [(10, 12), (31, 9), (4, 40), (7, 7)], strict=True
    ):
        pixels = random.integers(0, 256, (height, width, 3)).astype(np.uint8)
        box = rectangles.rectangle("inception", draws, height, width)
        found = rectangles.cut_on_host(pixels, box, size)
        assert found.dtype == np.uint8
        expected = bilinear(pixels.astype(np.float64), box, size)
        np.testing.assert_allclose(found, expected, atol=0.51)  # rounded


def test_a_rectangle_under_a_pixel_is_its_first_point():
    pixels = np.arange(16, dtype=np.uint8).reshape(4, 4, 1)
    box = np.array([1.2, 1.2, 0.4, 0.4])
    device = rectangles.cut(jnp.asarray(pixels)[None], jnp.float32(box)[None], 2)
    np.testing.assert_allclose(device, np.full((1, 2, 2, 1), 6.0), rtol=1e-6)
    np.testing.assert_array_equal(rectangles.cut_on_host(pixels, box, 2), 6)


def test_cutting_whole_images_at_their_size_changes_nothing():
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 1)).astype(np.uint8)
    box = jnp.array([[0.0, 0.0, 8.0, 8.0]] * 2)
    np.testing.assert_array_equal(rectangles.cut(jnp.asarray(images), box, 8), images)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fraction": 0.0}, "fraction .* got 0"),
        ({"area": (0.5, 0.1)}, r"area .* got \(0.5, 0.1\)"),
        ({"area": (0.0, 1.0)}, "area"),
        ({"aspect": (2.0, 1.0)}, "aspect"),
    ],
)
def test_impossible_settings(settings, message):
    usual = {
        "fraction": 0.8,
        "area": rectangles.AREA,
        "aspect": rectangles.ASPECT,
    }
    with pytest.raises(ValueError, match=message):
        rectangles.check(**usual | settings)
