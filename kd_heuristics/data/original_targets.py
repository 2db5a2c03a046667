"""Averages a teacher's prediction over many crops of each original of a prepared set.

As `targets`, for sets that do not fit into memory or whose images vary in size: the
host reads, decodes and crops each image, as `stream` does.
"""

import concurrent.futures
import functools
import os
from collections.abc import Callable
from typing import SupportsIndex

import jax
import jax.numpy as jnp
import numpy as np

from kd_heuristics.data import digits, rectangles, targets
from kd_heuristics.data.records import BadRecordError, Records
from kd_heuristics.data.views import View
from kd_heuristics.runtime import nearest, parallel

_THREADS = 4


# It takes what `ensemble_targets` takes, with a set's name for its images.
def ensemble_targets_of_originals(
    teacher: Callable,
    name: str,
    split: str,
    view: View,
    *,
    crops: SupportsIndex = 1000,
    temperature: float = 1.0,
    seed: SupportsIndex = 0,
    batch_size: SupportsIndex = 256,
    on_bad: str = "stop",
    path: str | os.PathLike[str] | None = None,
) -> np.ndarray:
    """Computes what `ensemble_targets` does, from the originals of a prepared set.

    Of the images, only a few batches of crops are in memory.

    Args:
      teacher: as of `ensemble_targets`.
      name: a set that tfds prepared, one of ours or "tfds:NAME[:CONFIG]".
      split: its split.
      view: usually `views.create("fix/ic_ens", ...)`.
      crops: number of crops per image, at least 1.
      temperature: temperature of the loss, positive.
      seed: seed of the crops.
      batch_size: crops per forward pass; it does not change the crops.
      on_bad: "stop" raises BadRecordError for a record that is not a labelled image.
        "skip" gives it NaN; `stream` then substitutes another example, and its target.
      path: as of `ensemble_targets`.

    Returns: float32 [n, classes], row i for example i of the split.

    Raises: TargetsError and ValueError as `ensemble_targets`; MissingDatasetError if
      the set was not prepared.
    """
    crops, batch_size, seed = targets.checked(crops, batch_size, seed, temperature)
    nearest.choose(on_bad, ("stop", "skip"), "answer to a bad record")
    teacher, records = targets.as_argument(teacher), Records(name, split)
    one = _Crop(records, view, seed, on_bad == "skip")

    def compute():
        found = _means(one, teacher, len(records), crops, temperature, batch_size)
        return temperature * found

    if path is None:
        return compute()
    described = {
        "crops": crops,
        "temperature": float(temperature),
        "seed": seed,
        "view": vars(view),
        "set": name,
        "split": split,
        "examples": len(records),
        "teacher": targets.digest(*jax.tree.leaves(teacher)),
    }
    return targets.stored(path, described, compute)


class _Crop:
    """`(place, number) -> uint8 [size, size, 3]`: a crop of an example.

    Args:
      records: the examples.
      view: its student's crops, at the teacher's size.
      seed: seed of the crops.
      skip: whether a bad record gives zeros and is noted in `bad`.
    """

    def __init__(self, records: Records, view: View, seed: int, skip: bool):
        self._view, self._seed = view, seed
        self.bad: set[int] = set()

        @functools.lru_cache(maxsize=2 * _THREADS)
        def read(place):
            try:
                return records[place][0]
            except BadRecordError:
                if not skip:
                    raise
                self.bad.add(place)
                return np.zeros((1, 1, 3), np.uint8)

        self._read = read

    def __call__(self, place: int, number: int) -> np.ndarray:
        pixels = self._read(place)
        seed = (self._seed, place, number)
        words = digits.draws(seed, rectangles.NUM_DRAWS + 1)
        draws = (words >> np.uint64(11)) * 2.0**-53
        box = self._view.box("student", draws[:-1], *pixels.shape[:2])
        found = rectangles.cut_on_host(pixels, box, self._view.teacher_size)
        return found[:, ::-1] if self._view.flip and draws[-1] < 0.5 else found


def _means(one, teacher, num_examples, crops, temperature, batch_size) -> np.ndarray:
    """Logarithms [n, classes] of the mean prediction; NaN for bad records."""
    total = None
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        for start in range(0, num_examples * crops, batch_size):
            stop = min(start + batch_size, num_examples * crops)
            places, numbers = np.divmod(np.arange(start, stop), crops)
            pixels = np.stack([*pool.map(one, places.tolist(), numbers.tolist())])
            missing = batch_size - len(pixels)  # so that one program serves all batches
            pixels = np.pad(pixels, [(0, missing), (0, 0), (0, 0), (0, 0)])
            found = parallel.to_host(
                _predicted(teacher, pixels, jnp.float32(temperature))
            )
            if total is None:
                total = np.full((num_examples, found.shape[-1]), -np.inf, np.float32)
            np.logaddexp.at(total, places, found[: len(places)])
    assert total is not None, "a set has examples"
    total[[*one.bad]] = np.nan
    return total - np.log(np.float32(crops))


@jax.jit
def _predicted(teacher, pixels, temperature):
    """Log-probabilities at a temperature."""
    logits = teacher(pixels.astype(jnp.float32)).astype(jnp.float32)
    return jax.nn.log_softmax(logits / temperature)
