"""Draws crop rectangles of images and resizes what they contain.

A rectangle is (top, left, height, width) in pixels of its image, possibly fractional,
with pixel centres at one half. It is computed from uniform draws by plain arithmetic on
NumPy arrays (host) or JAX arrays (device). Two networks can therefore see the same
rectangle at two resolutions.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float32, UInt8

KINDS = ("whole", "central", "mild", "inception")
RANDOM = ("mild", "inception")  # the others do not depend on the draws
NUM_DRAWS = 4  # uniform numbers in [0, 1) per rectangle
AREA, ASPECT = (0.05, 1.0), (3 / 4, 4 / 3)
FRACTION = 128 / 160


def rectangle(
    kind: str,
    draws: Any,
    height: Any,
    width: Any,
    *,
    fraction: float = FRACTION,
    area: tuple[float, float] = AREA,
    aspect: tuple[float, float] = ASPECT,
) -> Any:
    """Computes one rectangle per image.

    - "whole": the whole image, whatever its shape.
    - "central": the central square whose side is `fraction` of the smaller side. With
      fraction 128 / 160 it equals "smaller side to 160, then the central 128".
    - "mild": the same square at a uniformly random position.
    - "inception": draws width / height uniformly in `aspect`, then the height uniformly
      between the heights of the smallest and the largest `area`, clipped to what fits
      the image, then a uniform position. TensorFlow's `sample_distorted_bounding_box`
      draws in the same order, but rounds to whole pixels.

    Args:
      kind: one of `KINDS`.
      draws: float [..., 4] uniform in [0, 1): ratio, height, top, left.
      height: image height in pixels, a number or an array [...].
      width: image width, likewise.
      fraction: in (0, 1]; 128 / 160 on small sets, 224 / 256 on ImageNet.
      area: smallest and largest area of an inception crop, as fractions of the image's.
      aspect: smallest and largest width / height of an inception crop.

    Returns: array [..., 4] of the type of `draws`: top, left, height, width.

    >>> rectangle("central", np.zeros((1, 4)), 20, 10, fraction=0.5).tolist()
    [[7.5, 2.5, 5.0, 5.0]]
    """
    xp = draws.__array_namespace__()
    ratio, tallness, *place = (draws[..., i] for i in range(NUM_DRAWS))
    full = xp.zeros_like(ratio) + height, xp.zeros_like(ratio) + width
    if kind == "whole":
        sides = full
    elif kind == "inception":
        ratio = aspect[0] + (aspect[1] - aspect[0]) * ratio
        pixels = full[0] * full[1]
        fits = xp.minimum(full[0], full[1] / ratio)
        low, high = (xp.minimum(xp.sqrt(part * pixels / ratio), fits) for part in area)
        tall = low + tallness * (high - low)
        sides = tall, tall * ratio
    else:
        sides = (fraction * xp.minimum(*full),) * 2
    if kind not in RANDOM:
        place = [0.5, 0.5]
    starts = [
        part * (whole - side)
        for part, whole, side in zip(place, full, sides, strict=True)
    ]
    return xp.stack([*starts, *sides], -1)


def check(fraction: float, area: tuple[float, float], aspect: tuple[float, float]):
    """Raises ValueError for settings outside the ranges of `rectangle`."""
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction must lie in (0, 1], got {fraction}; 1 crops least")
    if not 0 < area[0] <= area[1] <= 1:
        raise ValueError(
            f"area must be two fractions of an image, 0 < low <= high <= 1, got "
            f"{area}; the usual one is {AREA}"
        )
    if not 0 < aspect[0] <= aspect[1]:
        raise ValueError(
            f"aspect must be two ratios in order, 0 < low <= high, got {aspect}; the "
            "usual one is (3/4, 4/3)"
        )


def cut(
    images: UInt8[Array, "b h w c"] | Float32[Array, "b h w c"],
    boxes: Float32[Array, "b 4"],
    size: int,
    flipped: Bool[Array, " b"] | None = None,
) -> Float32[Array, "b size size c"]:
    """Resizes each image's rectangle bilinearly to `size` x `size`, not antialiased.

    Output pixel o samples top + (o + 1/2) * height / size - 1/2, clipped to the
    rectangle's pixels; likewise along the width.

    Args:
      images: uint8, or float in the same units.
      boxes: rectangles; see `rectangle`.
      size: side of the result in pixels.
      flipped: which results to mirror left to right; `None` mirrors none.

    Returns: float in the units of the images, not rounded.

    >>> image = jnp.arange(16.0).reshape(1, 4, 4, 1)
    >>> cut(image, jnp.array([[0.0, 0.0, 4.0, 4.0]]), 2)[0, ..., 0].tolist()
    [[2.5, 4.5], [10.5, 12.5]]
    """
    rows = _weights(boxes[:, 0], boxes[:, 2], size, images.shape[1])
    columns = _weights(boxes[:, 1], boxes[:, 3], size, images.shape[2])
    if flipped is not None:
        columns = jnp.where(flipped[:, None, None], columns[:, ::-1], columns)
    # Matrix products, because gathers are slow on TPUs. TPUs round products to
    # bfloat16 unless the precision is set.
    return jnp.einsum(
        "byi,bijc,bxj->byxc",
        rows,
        images.astype(jnp.float32),
        columns,
        precision=jax.lax.Precision.HIGHEST,
    )


def cut_on_host(pixels: np.ndarray, box: np.ndarray, size: int) -> np.ndarray:
    """Does what `cut` does with NumPy, for one image of any shape, rounded to uint8.

    Args:
      pixels: uint8 [height, width, c].
      box: rectangle [4]; see `rectangle`.
      size: side of the result in pixels.

    >>> cut_on_host(np.full((5, 9, 3), 7, np.uint8), np.array([1.0, 1, 3, 3]), 2).shape
    (2, 2, 3)
    """
    rows, row_share = _neighbours(box[0], box[2], size, pixels.shape[0])
    columns, column_share = _neighbours(box[1], box[3], size, pixels.shape[1])
    # Keep only the columns that are read, because rows are mixed first.
    first, last = columns[0].min(), columns[1].max()
    part = pixels[:, first : last + 1].astype(np.float32)
    part = _mixed(part, rows, row_share, 0)
    part = _mixed(part, columns - first, column_share, 1)
    return np.rint(part).astype(np.uint8)


def _neighbours(start, length, size, pixels):
    """Two input pixels of each output pixel [2, size], and the second one's weight."""
    place = start + (np.arange(size) + 0.5) * (length / size) - 0.5
    place = place.clip(start, max(start, start + length - 1)).clip(0, pixels - 1)
    lower = place.astype(np.intp)
    upper = np.minimum(lower + 1, pixels - 1)
    return np.stack([lower, upper]), (place - lower).astype(np.float32)


def _mixed(part, neighbours, share, axis):
    """Interpolates linearly along an axis."""
    lower, upper = (part.take(index, axis) for index in neighbours)
    share = share[:, None, None] if axis == 0 else share[None, :, None]
    return lower + share * (upper - lower)


def _weights(
    start: Float[Array, " b"], length: Float[Array, " b"], size: int, pixels: int
) -> Float[Array, "b size pixels"]:
    """Weights of input pixel i in output pixel o; rows sum to 1."""
    steps = (jnp.arange(size, dtype=jnp.float32) + 0.5) / size
    start, length = start[:, None], length[:, None]
    place = start + steps[None] * length - 0.5
    last = jnp.maximum(start, start + length - 1)
    place = jnp.clip(place, start, last).clip(0, pixels - 1)
    distance = place[:, :, None] - jnp.arange(pixels, dtype=jnp.float32)[None, None]
    return jnp.maximum(0, 1 - jnp.abs(distance))
