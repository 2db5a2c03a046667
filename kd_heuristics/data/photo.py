"""Blends digits into photographs: a small set on which training heuristics matter.

The recipe is that of MNIST-M (Ganin et al. 2016, "Domain-Adversarial Training of Neural
Networks", section 5.2.4), |patch - digit| per channel, with scikit-learn's digits and
two photographs. Splits share neither a digit nor a pixel of a photograph. All
arithmetic uses integers and fixed seeds, so each byte is the same on every machine. The
photographs are stored beside this file as PNG because JPEG decoders differ in the last
bit.
"""

from pathlib import Path

import numpy as np

from kd_heuristics.data import digits
from kd_heuristics.data.dataset import UNLABELLED, Dataset

SIDE = 32  # default side, in pixels
SIZES = range(digits.SIDE, 129)
COPIES = 4  # patches per digit

ASSETS = Path(__file__).parent / "assets"

# The part (rows, columns) of each photograph that a split sees. The flower is split by
# rows and the tower by columns, so each split has petals, roofs, leaves and plain
# ground.
PARTS = {
    "train": {
        "china": (slice(0, 427), slice(256, 640)),
        "flower": (slice(128, 299), slice(0, 640)),
    },
    "validation": {
        "china": (slice(0, 427), slice(128, 256)),
        "flower": (slice(0, 128), slice(0, 640)),
    },
    "test": {
        "china": (slice(0, 427), slice(0, 128)),
        "flower": (slice(299, 427), slice(0, 640)),
    },
}
_SEEDS = {"train": 1, "validation": 2, "test": 3}


def load(split: str, size: int = SIDE) -> Dataset:
    """Blends digits into photographs: uint8 [n, size, size, 3].

    Each digit of the split appears in `COPIES` images, each with its own patch. The
    first n / COPIES images are distinct digits and the copies follow, so that the head
    of a split holds as many distinct digits as possible.

    Args:
      split: "train" (4,788 images), "validation" (800) or "test" (1,600).
      size: side in pixels, in `SIZES`.
    """
    values, labels = digits.raw(split)
    drawn = np.tile(digits.enlarge(values, size), (COPIES, 1, 1))[..., None]
    images = blend(_patches(split, len(drawn), size), drawn)
    return Dataset(images, np.tile(labels, COPIES), digits.NUM_CLASSES, "digits_photo")


def load_patches(split: str, size: int = SIDE) -> Dataset:
    """Loads the patches alone, as out-of-domain images: uint8 [n, size, size, 3].

    Image i is the background of image i of `load`. A study of transfer images can
    therefore compare equal numbers of images with the same backgrounds. The patches
    have no labels (`UNLABELLED`, no classes).
    """
    chosen = digits.SPLITS[split]
    count = COPIES * (chosen.stop - chosen.start)
    labels = np.full(count, UNLABELLED, np.int32)
    return Dataset(_patches(split, count, size), labels, 0, "photo_patches")


def blend(patches: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Computes |patch - digit| per channel, for uint8 arrays that broadcast.

    >>> blend(np.uint8([[10, 200]]), np.uint8([[255]])).tolist()
    [[245, 55]]
    """
    # The larger minus the smaller stays within uint8.
    return np.maximum(patches, drawn) - np.minimum(patches, drawn)


def photographs() -> dict[str, np.ndarray]:
    """Loads the two photographs by name, uint8 [427, 640, 3]."""
    from PIL import Image

    return {
        name: np.asarray(Image.open(ASSETS / f"{name}.png"))
        for name in ("china", "flower")
    }


def _patches(split: str, count: int, size: int) -> np.ndarray:
    """Draws patches at random places of a random photograph, uint8 [count, ...]."""
    choice, row, column = digits.draws((_SEEDS[split],), 3 * count).reshape(3, count)
    patches = np.empty((count, size, size, 3), np.uint8)
    photos = photographs()
    for number, (name, part) in enumerate(PARTS[split].items()):
        windows = np.lib.stride_tricks.sliding_window_view(
            photos[name][part], (size, size), axis=(0, 1)
        )
        mine = np.flatnonzero(choice % np.uint64(len(photos)) == number)
        rows, columns = (
            (draw[mine] % np.uint64(places)).astype(np.intp)
            for draw, places in zip((row, column), windows.shape[:2], strict=True)
        )
        patches[mine] = windows[rows, columns].transpose(0, 2, 3, 1)
    return patches
