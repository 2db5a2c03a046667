"""Augments and normalises uint8 batches on the device, with pure functions."""

import math
from collections.abc import Sequence
from typing import SupportsIndex

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, UInt8

from kd_heuristics.data import image_layout
from kd_heuristics.data.dataset import Dataset
from kd_heuristics.data.splits import BadDataError
from kd_heuristics.runtime import values


def augment(
    images: UInt8[Array, "b h w c"],
    key: jax.Array,
    *,
    padding: SupportsIndex,
    flip: bool,
) -> UInt8[Array, "b h w c"]:
    """Applies `random_crop`, then `random_flip` if `flip` is true."""
    key_crop, key_flip = jax.random.split(key)
    images = random_crop(images, key_crop, padding)
    return random_flip(images, key_flip) if flip else images


def augment_batches(
    batches: dict[str, jax.Array], key: jax.Array, *, padding: SupportsIndex, flip: bool
) -> dict[str, jax.Array]:
    """Crops and flips each image of evaluation batches once (see `augment`).

    Use it for metrics on a training set under the augmentation of training. Each
    example still counts once.

    Args:
      batches: what `eval_batches` returns; "images" uint8 [num_batches, b, h, w, c].
      key: random key of crops and flips; the same key gives the same images.
      padding: see `random_crop`.
      flip: whether to mirror each image with probability one half.
    """
    images = batches["images"]

    def one(index):
        own = jax.random.fold_in(key, index)
        return augment(images[index], own, padding=padding, flip=flip)

    return {**batches, "images": jax.lax.map(one, jnp.arange(len(images)))}


def random_crop(
    images: UInt8[Array, "b h w c"], key: jax.Array, padding: SupportsIndex = 4
) -> UInt8[Array, "b h w c"]:
    """Pads each image with zeros on all sides and crops it at a random offset.

    out[i, y, x] = images[i, y + dy[i] - padding, x + dx[i] - padding], zero outside,
    with dy[i] and dx[i] uniform in 0..2 * padding, independent between examples.

    Args:
      images: uint8 [b, h, w, c].
      key: random key of the offsets.
      padding: pixels on each side, not negative; 0 leaves the images unchanged.

    Raises:
      ValueError: `padding` is negative, the image has no batch axis, or channels come
        first.

    >>> image = jnp.full((1, 2, 2, 1), 7, jnp.uint8)
    >>> random_crop(image, jax.random.key(0), 1)[0, ..., 0].tolist()
    [[0, 0], [0, 7]]
    """
    padding = values.integer("padding", padding, 0, remedy="0 crops nothing")
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

    Raises: ValueError if the image has no batch axis or channels come first.
    """
    image_layout.check(images.shape)
    mirrored = (jax.random.bits(key, (len(images),), jnp.uint32) & 1) == 1
    return jnp.where(mirrored[:, None, None, None], images[:, :, ::-1], images)


def normalize(
    images: UInt8[Array, "*batch h w c"] | Float32[Array, "*batch h w c"],
    mean: Float[Array, " c"] | Sequence,
    std: Float[Array, " c"] | Sequence,
) -> Float32[Array, "*batch h w c"]:
    """Computes (images - mean) / std per channel, in float32.

    Args:
      images: pixels, channels last: uint8, or float32 in the same units, as views
        return them.
      mean: one value per channel, in units of uint8 pixels; see `channel_stats`.
      std: like `mean`, positive.

    Raises: ValueError if mean or std does not have one value per channel.

    >>> normalize(jnp.full((1, 1, 1, 1), 130, jnp.uint8), [120.0], [5.0]).item()
    2.0
    """
    rank = (1,) * (images.ndim - 1)
    mean, std = (jnp.asarray(v, jnp.float32).reshape(*rank, -1) for v in (mean, std))
    for name, value in (("mean", mean), ("std", std)):
        if value.size not in (1, images.shape[-1]):
            raise ValueError(
                f"{name} has {value.size} values for images of shape {images.shape}, "
                f"which have {images.shape[-1]} channels in their last axis; give one "
                "value per channel, and images with channels last"
            )
    return (images.astype(jnp.float32) - mean) / std


def channel_stats(dataset: Dataset) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Computes the mean and standard deviation of each channel, `(mean, std)`.

    With n pixels per channel, S their sum and Q the sum of their squares, mean = S / n
    and std = sqrt(n Q - S^2) / n. The sums are exact integers. Both results are rounded
    to float32 and returned as Python numbers, which are hashable, unlike arrays.

    Raises:
      BadDataError: all pixels of a channel are equal, so its deviation is zero.
    """
    values = np.arange(256)
    mean, std = [], []
    for channel, counts in enumerate(_histograms(dataset.images)):
        # Python integers: n Q exceeds 2^63 on a set of millions of images.
        n, total = int(counts.sum()), int(counts @ values)
        spread = n * int(counts @ values**2) - total**2
        if spread == 0:
            raise BadDataError(
                f"channel {channel} of the set {dataset.name!r} is {total // n} "
                "everywhere: there is no standard deviation to normalise by; leave out "
                "that channel"
            )
        mean.append(float(np.float32(total / n)))
        std.append(float(np.float32(math.sqrt(spread) / n)))
    return tuple(mean), tuple(std)


def _offsets(key, num_examples, padding):
    """Draws uniform int32 [num_examples, 2] in 0..2 * padding."""
    # Bits and a remainder, because `randint` may change its stream between versions
    # of jax.
    bits = jax.random.bits(key, (num_examples * 2,), jnp.uint32)
    bits = bits % jnp.uint32(2 * padding + 1)
    return bits.astype(jnp.int32).reshape(num_examples, 2)


def _histograms(images: np.ndarray) -> np.ndarray:
    """Counts each of the 256 values in each channel: int64 [c, 256]."""
    channels = images.shape[-1]
    counts = np.zeros((channels, 256), np.int64)
    for start in range(0, len(images), 1000):  # bincount copies to 8 bytes
        part = images[start : start + 1000].reshape(-1, channels)
        counts += [np.bincount(column, minlength=256) for column in part.T]
    return counts
