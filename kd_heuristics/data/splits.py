"""Splits own images that come without splits."""

import numpy as np

from kd_heuristics.data.digits import draws
from kd_heuristics.runtime.errors import InputError

SPLITS = ("train", "validation", "test")
_SEED = 0


class BadDataError(InputError):
    """Reports own data in a form that `data.load` does not take; names the remedy."""


def shuffled(count: int) -> np.ndarray:
    """Returns a fixed random order of 0..count - 1, the same on every machine."""
    return np.argsort(draws((_SEED,), count), kind="stable")


def parts(count: int, what: str) -> dict[str, np.ndarray]:
    """Returns rows: a random tenth each for validation and test, the rest for train.

    >>> {split: len(rows) for split, rows in parts(25, "").items()}
    {'train': 21, 'validation': 2, 'test': 2}
    """
    held = count // 10
    if not held:
        raise BadDataError(
            f"{what} has {count} images, too few to hold a tenth out for validation "
            "and another for test; give at least 10"
        )
    order = shuffled(count)
    train, validation, test = np.split(order, [count - 2 * held, count - held])
    return {"train": train, "validation": validation, "test": test}
