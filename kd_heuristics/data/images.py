"""Decodes images as TensorFlow does and resizes their central square."""

import io
from typing import Any

import numpy as np


def decode(encoded: bytes) -> np.ndarray:
    """Decodes to uint8 [height, width, 3], like `tf.io.decode_image(channels=3)`.

    - A grey image is repeated three times; 1, 2 and 4 bits are scaled to 0..255.
    - A 16-bit image keeps its high 8 bits.
    - Palettes are looked up. Alpha is dropped and the colours below it are kept.
    - CMYK inks become (255 - K) (255 - C) // 255, and likewise for M and Y.
    - An animation keeps its first frame.

    JPEG values may differ by a few units, because TensorFlow's default transform is
    faster and less accurate.

    Raises: ValueError for an image that TensorFlow does not read as 8-bit RGB either;
      Pillow's errors for bytes that are not an image.
    """
    from PIL import Image

    with Image.open(io.BytesIO(encoded)) as image:
        if image.mode == "CMYK":
            return _inks(image)
        if image.mode in ("P", "PA"):
            image = image.convert("RGBA")  # looks palettes up without blending
        values = np.asarray(image)
        if image.mode in ("RGB", "RGBA"):
            return np.ascontiguousarray(values[..., :3])
        if image.mode in ("L", "LA"):
            return _repeated(values.reshape(*values.shape[:2], -1)[..., 0])
        if image.mode == "1":
            return _repeated(values * np.uint8(255))
        if image.mode.startswith("I;16") or (image.mode, image.format) == ("I", "PNG"):
            return _repeated(values >> 8)  # 16 bits, in newer and older Pillow
        raise ValueError(
            f"the image has Pillow's mode {image.mode}, which TensorFlow does not read "
            "as 8-bit RGB either; save it as RGB among the set's downloaded files"
        )


def central_square(pixels: np.ndarray, size: int) -> np.ndarray:
    """Resizes the central square of an image [h, w, c] to uint8 [size, size, c].

    The square's side is the image's smaller side. To shrink it, each value is the mean
    over the output pixel's area, with input pixels weighted by their overlap
    (TensorFlow's `area`), rounded to the nearest integer. To enlarge it, values are
    interpolated bilinearly.

    >>> central_square(np.full((9, 30, 3), 7, np.uint8), 4).shape
    (4, 4, 3)
    """
    height, width, channels = pixels.shape
    if height == width == size:
        return pixels
    side = min(height, width)
    top, left = (height - side) / 2, (width - side) / 2
    if side >= size:
        rows = _area_means(pixels, top, side, size)
        columns = _area_means(rows.swapaxes(0, 1), left, side, size)
        return np.rint(columns.swapaxes(0, 1)).astype(np.uint8)
    from PIL import Image

    box = (left, top, left + side, top + side)
    resized = [
        Image.fromarray(np.ascontiguousarray(pixels[..., channel])).resize(
            (size, size), Image.Resampling.BILINEAR, box=box
        )
        for channel in range(channels)
    ]
    return np.stack([np.asarray(channel) for channel in resized], -1)


def _area_means(values: np.ndarray, start: float, length: int, size: int) -> np.ndarray:
    """Averages over `size` equal parts of [start, start + length) along the first axis.

    The integral from 0 to x is linear between integers x. Sums of pixels are exact in
    float64.
    """
    total = np.zeros((len(values) + 1, *values.shape[1:]))
    np.cumsum(values, axis=0, dtype=np.float64, out=total[1:])
    edges = start + np.arange(size + 1) * length / size
    whole = edges.astype(np.intp)
    share = (edges - whole)[:, None, None]
    after = np.minimum(whole + 1, len(values))
    integral = total[whole] + share * (total[after] - total[whole])
    return np.diff(integral, axis=0) * (size / length)


def _repeated(grey: np.ndarray) -> np.ndarray:
    """Repeats grey [h, w] as three channels, uint8."""
    return np.repeat(grey[..., None], 3, -1).astype(np.uint8)


def _inks(image: Any) -> np.ndarray:
    """Converts a CMYK image to RGB.

    Adobe's programs store 255 - ink and mark the file. Pillow inverts every JPEG,
    marked or not. TensorFlow inverts only marked files.
    """
    inks = np.asarray(image).astype(np.int32)
    if image.format == "JPEG" and "adobe" not in image.info:
        inks = 255 - inks
    paper = 255 - inks
    return (paper[..., 3:] * paper[..., :3] // 255).astype(np.uint8)
