"""Rectangles of images: which part is looked at, and that part at another size.

A rectangle is (top, left, height, width) in pixels of its image, fractions included: a
pixel's centre lies at one half. It is made from uniform draws by plain arithmetic, of
NumPy's arrays on a host or of JAX's on a device; so one rectangle can be looked at by
two networks, at two resolutions.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float32, UInt8

KINDS = ("whole", "central", "mild", "inception")
RANDOM = ("mild", "inception")  # the others are the same at every draw
NUM_DRAWS = 4  # uniform numbers in [0, 1) that a rectangle is made from
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
    """A rectangle of each image.

    - "whole": all of it, whatever its shape.
    - "central": the central square whose side is `fraction` of the smaller side: with
      160 and 128 the same as "smaller side to 160, then the central 128".
    - "mild": that square at a uniformly random place.
    - "inception": width / height = r, uniform in `aspect`; then the height, uniform
      between those at which height * width is the smallest and the largest `area`, the
      latter cut to what fits into the image; then a uniform place. This is the order in
      which TensorFlow's `sample_distorted_bounding_box` draws; it keeps whole pixels.

    Args:
      kind: one of `KINDS`.
      draws: float [..., 4] uniform in [0, 1): ratio, height, top, left.
      height: of the images, in pixels: a number or an array [...].
      width: as `height`.
      fraction: in (0, 1]; 128 / 160 on small sets, 224 / 256 on ImageNet.
      area: smallest and largest area of an inception crop, parts of the image's.
      aspect: smallest and largest width / height of an inception crop.

    Returns: of the type of `draws`, [..., 4]: top, left, height, width.

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
    """Raises ValueError for settings of which `rectangle` cannot make rectangles."""
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction must lie in (0, 1], got {fraction}; 1 crops least")
    if not 0 < area[0] <= area[1] <= 1:
        raise ValueError(
            f"area must be two parts of an image in order, 0 < low <= high <= 1, got "
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
    """Each image's rectangle at `size` x `size` pixels: bilinear, without antialiasing.

    Output pixel o is read at top + (o + 1/2) * height / size - 1/2, where it is outside
    the rectangle at the rectangle's nearest pixel; likewise along the width.

    Args:
      images: uint8, or float in the same units.
      boxes: rectangles, as of `rectangle`.
      size: pixels a side of the result.
      flipped: which of the results are mirrored left to right; None: none.

    Returns: float in the units of the images, not rounded.

    >>> image = jnp.arange(16.0).reshape(1, 4, 4, 1)
    >>> cut(image, jnp.array([[0.0, 0.0, 4.0, 4.0]]), 2)[0, ..., 0].tolist()
    [[2.5, 4.5], [10.5, 12.5]]
    """
    rows = _weights(boxes[:, 0], boxes[:, 2], size, images.shape[1])
    columns = _weights(boxes[:, 1], boxes[:, 3], size, images.shape[2])
    if flipped is not None:
        columns = jnp.where(flipped[:, None, None], columns[:, ::-1], columns)
    # Matrix products, not gathers, which are slow on TPUs; those would round to
    # bfloat16 unless told otherwise.
    return jnp.einsum(
        "byi,bijc,bxj->byxc",
        rows,
        images.astype(jnp.float32),
        columns,
        precision=jax.lax.Precision.HIGHEST,
    )


def cut_on_host(pixels: np.ndarray, box: np.ndarray, size: int) -> np.ndarray:
    """As `cut`, of one image of any shape, with NumPy, rounded to uint8.

    Args:
      pixels: uint8 [height, width, c].
      box: [4], as of `rectangle`.
      size: pixels a side of the result.

    >>> cut_on_host(np.full((5, 9, 3), 7, np.uint8), np.array([1.0, 1, 3, 3]), 2).shape
    (2, 2, 3)
    """
    rows, row_share = _neighbours(box[0], box[2], size, pixels.shape[0])
    columns, column_share = _neighbours(box[1], box[3], size, pixels.shape[1])
    # Only the columns that are looked at: rows are mixed first, over all of them.
    first, last = columns[0].min(), columns[1].max()
    part = pixels[:, first : last + 1].astype(np.float32)
    part = _mixed(part, rows, row_share, 0)
    part = _mixed(part, columns - first, column_share, 1)
    return np.rint(part).astype(np.uint8)


def _neighbours(start, length, size, pixels):
    """The two input pixels of each output pixel [2, size]; the second one's share."""
    place = start + (np.arange(size) + 0.5) * (length / size) - 0.5
    place = place.clip(start, max(start, start + length - 1)).clip(0, pixels - 1)
    lower = place.astype(np.intp)
    upper = np.minimum(lower + 1, pixels - 1)
    return np.stack([lower, upper]), (place - lower).astype(np.float32)


def _mixed(part, neighbours, share, axis):
    lower, upper = (part.take(index, axis) for index in neighbours)
    share = share[:, None, None] if axis == 0 else share[None, :, None]
    return lower + share * (upper - lower)


def _weights(
    start: Float[Array, " b"], length: Float[Array, " b"], size: int, pixels: int
) -> Float[Array, "b size pixels"]:
    """How much of input pixel i output pixel o holds; rows sum to 1."""
    steps = (jnp.arange(size, dtype=jnp.float32) + 0.5) / size
    start, length = start[:, None], length[:, None]
    place = start + steps[None] * length - 0.5
    last = jnp.maximum(start, start + length - 1)
    place = jnp.clip(place, start, last).clip(0, pixels - 1)
    distance = place[:, :, None] - jnp.arange(pixels, dtype=jnp.float32)[None, None]
    return jnp.maximum(0, 1 - jnp.abs(distance))
