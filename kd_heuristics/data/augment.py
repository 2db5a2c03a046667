"""Augmentation and normalisation on the device: pure functions of uint8 batches."""

import math
from collections.abc import Sequence
from typing import SupportsIndex

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, UInt8

from kd_heuristics import image_layout, integers
from kd_heuristics.data.dataset import Dataset


def augment(
    images: UInt8[Array, "b h w c"], key: jax.Array, *, padding: int, flip: bool
) -> UInt8[Array, "b h w c"]:
    """A random crop, then a random flip where `flip` is true; see those two."""
    key_crop, key_flip = jax.random.split(key)
    images = random_crop(images, key_crop, padding)
    return random_flip(images, key_flip) if flip else images


def augment_batches(
    batches: dict[str, jax.Array], key: jax.Array, *, padding: int, flip: bool
) -> dict[str, jax.Array]:
    """Evaluation batches with each image cropped and flipped once, see `augment`.

    For metrics on a training set as training sees it: each example still counts once.

    Args:
      batches: as of `eval_batches`, "images" uint8 [num_batches, b, h, w, c].
      key: of the crops and flips, the same for the same key.
      padding: of `random_crop`.
      flip: mirrors each image with probability one half.
    """
    images = batches["images"]

    def one(index):
        own = jax.random.fold_in(key, index)
        return augment(images[index], own, padding=padding, flip=flip)

    return {**batches, "images": jax.lax.map(one, jnp.arange(len(images)))}


def random_crop(
    images: UInt8[Array, "b h w c"], key: jax.Array, padding: SupportsIndex = 4
) -> UInt8[Array, "b h w c"]:
    """Pads with zeros on all sides and cuts each image out at a random place.

    out[i, y, x] = images[i, y + dy[i] - padding, x + dx[i] - padding], zero outside,
    with dy[i] and dx[i] uniform in 0..2 * padding, independent between examples.

    Args:
      images: uint8 [b, h, w, c].
      key: of the offsets.
      padding: pixels on each side, not negative; 0 changes nothing.

    Raises:
      ValueError: `padding` is negative; one unbatched image; channels come first.

    >>> image = jnp.full((1, 2, 2, 1), 7, jnp.uint8)
    >>> random_crop(image, jax.random.key(0), 1)[0, ..., 0].tolist()
    [[0, 0], [0, 7]]
    """
    padding = integers.integer("padding", padding, 0, remedy="0 crops nothing")
    image_layout.check(images.shape)
    if padding == 0:
        return images
    pad = (padding, padding)
    padded = jnp.pad(images, ((0, 0), pad, pad, (0, 0)))

    def cut(image, offset):
        start = *offset, jnp.int32(0)
        return jax.lax.dynamic_slice(image, start, images.shape[1:])

    return jax.vmap(cut)(padded, _offsets(key, len(images), padding))


def random_flip(
    images: UInt8[Array, "b h w c"], key: jax.Array
) -> UInt8[Array, "b h w c"]:
    """Mirrors each image left to right with probability one half.

    Raises: ValueError for one unbatched image, or channels that come first.
    """
    image_layout.check(images.shape)
    mirrored = (jax.random.bits(key, (len(images),), jnp.uint32) & 1) == 1
    return jnp.where(mirrored[:, None, None, None], images[:, :, ::-1], images)


def normalize(
    images: UInt8[Array, "*batch h w c"] | Float32[Array, "*batch h w c"],
    mean: Float[Array, " c"] | Sequence,
    std: Float[Array, " c"] | Sequence,
) -> Float32[Array, "*batch h w c"]:
    """(images - mean) / std a channel, in float32: units of the set's deviation.

    Args:
      images: pixels, channels last: uint8, or float32 in the same units, as of views.
      mean: a value a channel, in units of uint8 pixels, as of `channel_stats`.
      std: as `mean`, positive.

    Raises: ValueError where mean or std has not as many values as images have channels.

    >>> normalize(jnp.full((1, 1, 1, 1), 130, jnp.uint8), [120.0], [5.0]).item()
    2.0
    """
    rank = (1,) * (images.ndim - 1)
    mean, std = (jnp.asarray(v, jnp.float32).reshape(*rank, -1) for v in (mean, std))
    for name, value in (("mean", mean), ("std", std)):
        if value.size not in (1, images.shape[-1]):
            raise ValueError(
                f"{name} has {value.size} values for images of {images.shape}, whose "
                f"last axis, the channels, has {images.shape[-1]}; give one a channel, "
                "and images with their channels last"
            )
    return (images.astype(jnp.float32) - mean) / std


def channel_stats(dataset: Dataset) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of the pixels of each channel, `(mean, std)`.

    From sums of integers, without rounding until the end: with n pixels a channel,
    S their sum and Q the sum of their squares, mean = S / n and
    std = sqrt(n Q - S^2) / n. Both are rounded to float32 and returned as numbers,
    which are hashable where arrays are not.

    Raises:
      ValueError: all pixels of a channel are equal: there is no unit to measure in.
    """
    values = np.arange(256)
    mean, std = [], []
    for channel, counts in enumerate(_histograms(dataset.images)):
        # Python's integers: n Q passes 2^63 on a set of millions of images.
        n, total = int(counts.sum()), int(counts @ values)
        spread = n * int(counts @ values**2) - total**2
        if spread == 0:
            raise ValueError(
                f"channel {channel} of the set {dataset.name!r} is {total // n} "
                "everywhere: there is no standard deviation to normalise by"
            )
        mean.append(float(np.float32(total / n)))
        std.append(float(np.float32(math.sqrt(spread) / n)))
    return tuple(mean), tuple(std)


def _offsets(key, num_examples, padding):
    """Uniform int32 [num_examples, 2] in 0..2 * padding."""
    # Bits and a remainder: `randint` may change its stream between versions of jax.
    bits = jax.random.bits(key, (num_examples * 2,), jnp.uint32)
    bits = bits % jnp.uint32(2 * padding + 1)
    return bits.astype(jnp.int32).reshape(num_examples, 2)


def _histograms(images: np.ndarray) -> np.ndarray:
    """How often each channel has each of the 256 values: int64 [c, 256]."""
    channels = images.shape[-1]
    counts = np.zeros((channels, 256), np.int64)
    for start in range(0, len(images), 1000):  # bincount makes 8-byte copies
        part = images[start : start + 1000].reshape(-1, channels)
        counts += [np.bincount(column, minlength=256) for column in part.T]
    return counts
