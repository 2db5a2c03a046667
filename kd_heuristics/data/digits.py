"""Loads scikit-learn's handwritten digits, at any size, in three disjoint splits.

The set has 1,797 digits of 8 by 8 pixels with values 0..16 (Alpaydin and Kaynak 1998,
UCI machine learning repository: Optical Recognition of Handwritten Digits, test part).
All arithmetic uses integers, so each byte is the same on every machine.
"""

import numpy as np

from kd_heuristics.data.dataset import Dataset

NUM_CLASSES = 10
SIDE = 8  # pixels
BRIGHTEST = 16  # the digits' own scale is 0..16

# The part of the shuffled digits that each split holds.
SPLITS = {
    "train": slice(0, 1197),
    "validation": slice(1197, 1397),
    "test": slice(1397, 1797),
}
_SEED = 2019


def load(split: str, size: int = SIDE) -> Dataset:
    """Loads the digits of a split: uint8 [n, size, size, 1].

    Args:
      split: a key of `SPLITS`, which hold 1,197, 200 and 400 digits.
      size: side in pixels, at least 8; `enlarge` interpolates to sizes above 8.
    """
    digits, labels = raw(split)
    return Dataset(enlarge(digits, size)[..., None], labels, NUM_CLASSES, "digits")


def raw(split: str) -> tuple[np.ndarray, np.ndarray]:
    """Loads the original digits of a split, int64 [n, 8, 8] in 0..16, and labels."""
    from sklearn.datasets import load_digits  # a second of import, for these sets only

    pixels, labels = load_digits(return_X_y=True)
    order = np.argsort(draws((_SEED,), len(labels)), kind="stable")
    chosen = order[SPLITS[split]]
    digits = pixels[chosen].astype(np.int64).reshape(-1, SIDE, SIDE)
    return digits, labels[chosen].astype(np.int32)


def draws(seed: tuple[int, ...], count: int) -> np.ndarray:
    """Draws random uint64 [count] from the raw stream of PCG64.

    NumPy guarantees the raw stream. The methods of its `Generator` may change between
    versions.
    """
    return np.random.PCG64(seed).random_raw(count)


def enlarge(digits: np.ndarray, size: int) -> np.ndarray:
    """Interpolates bilinearly in exact integers and rescales 0..16 to 0..255.

    Output pixel o samples the input coordinate (o + 1/2) * 8 / size - 1/2 (pixel
    centres, the edge pixel repeated outside), a fraction with denominator 2 * size.
    Each value is therefore a fraction of integers, rounded once to the nearest integer,
    halves up.

    Args:
      digits: integers [n, 8, 8] in 0..16.
      size: side of the result in pixels, at least 8.

    Returns: uint8 [n, size, size].

    Raises:
      ValueError: `size` is below 8: interpolation would skip pixels.

    >>> enlarge(np.full((1, 8, 8), 8), 8)[0, 0, :3].tolist()
    [128, 128, 128]
    """
    if size < SIDE:
        raise ValueError(f"size must be at least {SIDE}, the digits' own, got {size}")
    weights = _weights(size)
    total = np.einsum("yi,nij,xj->nyx", weights, digits, weights, optimize=True)
    denominator = BRIGHTEST * (2 * size) ** 2
    return ((total * 255 + denominator // 2) // denominator).astype(np.uint8)


def _weights(size: int) -> np.ndarray:
    """Weights of input pixel i in output pixel o: int64 [o, i], rows sum to 2 * size.

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
