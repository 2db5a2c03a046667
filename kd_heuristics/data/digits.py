"""scikit-learn's handwritten digits, at any size, in three disjoint splits.

1,797 digits of 8 by 8 pixels with values 0..16 (Alpaydin and Kaynak 1998, UCI machine
learning repository: Optical Recognition of Handwritten Digits, its test part). All of
this is integer arithmetic, so each byte is the same on every machine.
"""

import numpy as np

from kd_heuristics.data.dataset import Dataset

NUM_CLASSES = 10
SIDE = 8  # pixels
BRIGHTEST = 16  # the digits' own scale is 0..16

# Which part of the shuffled digits each split holds.
SPLITS = {
    "train": slice(0, 1197),
    "validation": slice(1197, 1397),
    "test": slice(1397, 1797),
}
_SEED = 2019


def load(split: str, size: int = SIDE) -> Dataset:
    """The digits of a split: uint8 [n, size, size, 1].

    Args:
      split: a key of `SPLITS`: 1,197, 200 and 400 digits.
      size: pixels a side, at least 8; larger than 8 is bilinear (`enlarge`).
    """
    digits, labels = raw(split)
    return Dataset(enlarge(digits, size)[..., None], labels, NUM_CLASSES, "digits")


def raw(split: str) -> tuple[np.ndarray, np.ndarray]:
    """The digits of a split as they are, int64 [n, 8, 8] in 0..16, and int32 labels."""
    from sklearn.datasets import load_digits  # a second of import, for these sets only

    pixels, labels = load_digits(return_X_y=True)
    order = np.argsort(draws((_SEED,), len(labels)), kind="stable")
    chosen = order[SPLITS[split]]
    digits = pixels[chosen].astype(np.int64).reshape(-1, SIDE, SIDE)
    return digits, labels[chosen].astype(np.int32)


def draws(seed: tuple[int, ...], count: int) -> np.ndarray:
    """Random uint64 [count]: the raw stream of PCG64, which NumPy keeps for ever.

    Its `Generator` methods may change between versions; raw words do not.
    """
    return np.random.PCG64(seed).random_raw(count)


def enlarge(digits: np.ndarray, size: int) -> np.ndarray:
    """Bilinear interpolation in exact integers, and the scale 0..16 to 0..255.

    Output pixel o looks at the input coordinate (o + 1/2) * 8 / size - 1/2 (pixel
    centres, the edge pixel repeated outside), a fraction with denominator 2 * size. So
    each value is a fraction of integers; it is rounded once, to the nearest, halves up.

    Args:
      digits: integers [n, 8, 8] in 0..16.
      size: pixels a side of the result, at least 8.

    Returns: uint8 [n, size, size].

    Raises:
      ValueError: `size` is below 8: interpolation would skip pixels.

    >>> enlarge(np.full((1, 8, 8), 8), 8)[0, 0, :3].tolist()
    [128, 128, 128]
    """
    if size < SIDE:
        raise ValueError(f"digits have {SIDE} pixels a side and only grow, got {size}")
    weights = _weights(size)
    total = np.einsum("yi,nij,xj->nyx", weights, digits, weights, optimize=True)
    denominator = BRIGHTEST * (2 * size) ** 2
    return ((total * 255 + denominator // 2) // denominator).astype(np.uint8)


def _weights(size: int) -> np.ndarray:
    """How much of input pixel i output pixel o holds: int64 [o, i], rows sum to 2 size.

    >>> _weights(16)[:3, :2].tolist()
    [[32, 0], [24, 8], [8, 24]]
    """
    outputs = np.arange(size)
    position = (2 * outputs + 1) * SIDE - size  # in units of 1 / (2 size)
    lower, upper_share = np.divmod(position, 2 * size)
    weights = np.zeros((size, SIDE), np.int64)
    for pixel, share in ((lower, 2 * size - upper_share), (lower + 1, upper_share)):
        weights[outputs, pixel.clip(0, SIDE - 1)] += share
    return weights
