import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kd_heuristics import data

RANDOM = np.random.RandomState(0)
IMAGES = RANDOM.randint(1, 256, (64, 6, 5, 3)).astype(np.uint8)
KEY = jax.random.key(3)


random_crop = jax.jit(data.random_crop, static_argnames="padding")


def crops_of(image, padding):
    """Every crop of an image by its offset, in NumPy."""
    h, w, _ = image.shape
    padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)))
    side = range(2 * padding + 1)
    return {(y, x): padded[y : y + h, x : x + w] for y in side for x in side}


def offsets_of(images, padding, key):
    """The offset that explains each crop; fails where none or several do."""
    cropped = np.asarray(random_crop(jnp.asarray(images), key, padding))
    assert cropped.dtype == np.uint8
    found = []
    for image, crop in zip(images, cropped, strict=True):
        matches = [
            offset
            for offset, candidate in crops_of(image, padding).items()
            if np.array_equal(candidate, crop)
        ]
        assert len(matches) == 1
        found.append(matches[0])
    return np.array(found)


# Less than the side: the window of a padding as large can miss the image. Few, as each
# is compiled.
@settings(derandomize=True, deadline=None, max_examples=12)
@given(padding=st.sampled_from([1, 4]), seed=st.integers(0, 2**31 - 1))
def test_a_crop_is_a_window_of_the_padded_image(padding, seed):
    # No pixel is 0, so that a window tells its offset.
    offsets = offsets_of(IMAGES[:8], padding, jax.random.key(seed))
    assert offsets.min() >= 0
    assert offsets.max() <= 2 * padding


def test_offsets_are_uniform_and_independent():
    images = np.tile(IMAGES[:1], (4000, 1, 1, 1))
    cropped = np.asarray(random_crop(jnp.asarray(images), KEY, 1))
    table = crops_of(images[0], 1)
    counts = [(cropped == crop).all((1, 2, 3)).sum() for crop in table.values()]
    assert sum(counts) == 4000
    # 9 places with 444 each; 6 standard deviations of 20.
    assert np.abs(np.array(counts) - 4000 / 9).max() < 120


def test_the_first_offsets_stay_what_they_are():
    assert offsets_of(IMAGES[:4], 4, jax.random.key(0)).tolist() == [
        [3, 6],
        [3, 2],
        [0, 8],
        [5, 7],
    ]


def test_no_padding_changes_nothing():
    np.testing.assert_array_equal(data.random_crop(jnp.asarray(IMAGES), KEY, 0), IMAGES)
    with pytest.raises(ValueError, match="padding must be at least 0, got -1"):
        data.random_crop(jnp.asarray(IMAGES), KEY, -1)


def test_a_flip_mirrors_half_of_the_images():
    images = np.tile(IMAGES, (20, 1, 1, 1))
    flipped = np.asarray(data.random_flip(jnp.asarray(images), KEY))
    assert flipped.dtype == np.uint8
    kept = (flipped == images).all((1, 2, 3))
    mirrored = (flipped == images[:, :, ::-1]).all((1, 2, 3))
    assert (kept ^ mirrored).all()
    # 1,280 coins: 6 standard deviations of 18.
    assert abs(mirrored.sum() - 640) < 108


@pytest.mark.parametrize("flip", [False, True])
def test_augment_crops_and_flips_by_independent_keys(flip):
    images = jnp.asarray(np.tile(IMAGES[:1], (400, 1, 1, 1)))
    augmented = np.asarray(data.augment(images, KEY, padding=1, flip=flip))
    table = list(crops_of(IMAGES[0], 1).values())
    sides = [table, [crop[:, ::-1] for crop in table]]
    counts = [
        [int((augmented == crop).all((1, 2, 3)).sum()) for crop in side]
        for side in sides
    ]
    assert np.sum(counts) == 400
    # Each of the 18 results is met where flips are on (22 expected), else half of them.
    assert (np.array(counts[0]) > 0).all()
    assert (np.array(counts[1]) > 0).all() == flip
    if flip:
        key_crop, key_flip = jax.random.split(KEY)
        composed = data.random_flip(random_crop(images, key_crop, 1), key_flip)
        np.testing.assert_array_equal(augmented, composed)


def test_under_jit_scan_and_vmap():
    def function(images, key):
        return data.augment(images, key, padding=4, flip=True)

    keys = jax.random.split(KEY, 3)
    images = jnp.asarray(IMAGES)
    one = jax.jit(function)
    expected = jnp.stack([one(images, key) for key in keys])
    many = jax.vmap(function, in_axes=(None, 0))(images, keys)
    scanned = jax.lax.scan(lambda _, key: (None, function(images, key)), None, keys)[1]
    np.testing.assert_array_equal(many, expected)
    np.testing.assert_array_equal(scanned, expected)


def test_statistics_are_exact():
    dataset = data.Dataset(IMAGES, np.zeros(64, np.int32), 1)
    mean, std = data.channel_stats(dataset)
    pixels = IMAGES.reshape(-1, 3).astype(np.float64)
    # Nothing is rounded before float32.
    assert mean == tuple(np.float32(pixels.mean(0)).tolist())
    assert std == tuple(np.float32(pixels.std(0)).tolist())
    assert hash((mean, std))


def test_statistics_of_more_pixels_than_64_bits_can_square():
    # n Q - S^2 = (n / 2)^2 255^2 = 9.4e18 > 2^63; more images than one histogram.
    images = np.zeros((2001, 120, 100, 1), np.uint8)
    images[1001:] = 255
    images[1000, 60:] = 255
    dataset = data.Dataset(images, np.zeros(2001, np.int32), 1)
    assert data.channel_stats(dataset) == ((127.5,), (127.5,))


def test_statistics_of_a_constant_channel():
    images = IMAGES.copy()
    images[..., 1] = 9
    dataset = data.Dataset(images, np.zeros(64, np.int32), 1, "flat")
    with pytest.raises(ValueError, match="channel 1 of the set 'flat' is 9"):
        data.channel_stats(dataset)


@pytest.mark.parametrize("convert", [tuple, np.float32, jnp.asarray])
def test_normalize(convert):
    mean, std = data.channel_stats(data.Dataset(IMAGES, np.zeros(64, np.int32), 1))
    found = jax.jit(data.normalize)(IMAGES, convert(mean), convert(std))
    expected = (IMAGES.astype(np.float64) - mean) / std
    assert found.dtype == jnp.float32
    # One subtraction and one division in float32.
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found.reshape(-1, 3).std(0), 1, rtol=1e-5)
    images = jnp.asarray(IMAGES)
    batched = data.normalize(images[None], mean, std)
    np.testing.assert_array_equal(batched[0], data.normalize(images, mean, std))


def test_evaluation_batches_augmented_once():
    images = jnp.asarray(IMAGES.reshape(4, 16, 6, 5, 3))
    batches = {"images": images, "labels": jnp.zeros((4, 16), jnp.int32)}
    found = data.augment_batches(batches, KEY, padding=1, flip=True)
    assert found["labels"] is batches["labels"]
    augment = jax.jit(lambda x, key: data.augment(x, key, padding=1, flip=True))
    for index in (0, 3):
        alone = augment(images[index], jax.random.fold_in(KEY, index))
        np.testing.assert_array_equal(found["images"][index], alone)
    assert (found["images"] != images).any((1, 2, 3, 4)).all()
