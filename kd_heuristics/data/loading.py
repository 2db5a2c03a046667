"""Selects, reads and crops the examples of a stream, in one reading process.

Everything here uses NumPy and can be pickled for another process.
"""

import contextlib
import dataclasses
import functools
import multiprocessing
import multiprocessing.connection
import os
import threading
from typing import Any

import numpy as np

from kd_heuristics.data import digits, rectangles
from kd_heuristics.data.batches import steps_per_epoch
from kd_heuristics.data.records import BadRecordError, Records
from kd_heuristics.data.views import View

# Separates the draws of substitute examples from those of an example's crops.
_STAND_IN, _NUM_STAND_INS = 2**32 - 1, 100


@dataclasses.dataclass(frozen=True)
class Rows:
    """Selects rows of each batch, as a random-access source for Grain.

    Element i is `(place, number)`: the example's position in the stream, counted over
    all batches from step 0, and its index in the set.

    Attributes:
      num_examples: number of examples in the set.
      batch_size: examples per step, over all processes.
      seed: seed of the order.
      rows: selected rows of each batch.
      remainder: "drop" or "carry", see `batches.batch_indices`.
      first_step: step of element 0.
      last_step: step before which the source ends (exclusive).
    """

    num_examples: int
    batch_size: int
    seed: int
    rows: tuple[int, ...]
    remainder: str
    first_step: int
    last_step: int

    def __len__(self) -> int:
        return (self.last_step - self.first_step) * len(self.rows)

    def __getitem__(self, element: int) -> tuple[int, int]:
        step, row = divmod(int(element), len(self.rows))
        step, row = self.first_step + step, self.rows[row]
        position = step * self.batch_size + row
        shuffled = position  # position in the repeated, shuffled set
        if self.remainder == "drop":
            steps = steps_per_epoch(self.num_examples, self.batch_size)
            left_out = self.num_examples - steps * self.batch_size
            shuffled += step // steps * left_out
        return position, int(self._order[shuffled])

    @functools.cached_property
    def _order(self) -> Any:
        """Grain's shuffled indices, in a new order each epoch."""
        import grain

        # Hashed, because Grain adds the epoch to the seed: neighbouring seeds would
        # share orders.
        seed = np.random.SeedSequence(self.seed).generate_state(1)[0]
        return grain.MapDataset.range(self.num_examples).shuffle(seed=int(seed))


@dataclasses.dataclass(frozen=True)
class Load:
    """Reads an example and crops what teacher and student see.

    Attributes:
      records: the examples.
      view: defines the crops of teacher and student.
      seed: seed of the crops.
      skip: whether to substitute another example for a bad record.
    """

    records: Records
    view: View
    seed: int
    skip: bool

    def __call__(self, found: tuple[int, int]) -> dict[str, Any]:
        place, wanted = found
        index, pixels, label = self._read(place, wanted)
        height, width, _ = pixels.shape
        draws = self._draws(place)
        example: dict[str, Any] = {
            "labels": np.int32(label),
            "index": np.int32(index),
            "substituted": np.bool_(index != wanted),
        }
        for number, (who, size) in enumerate(self._viewers()):
            box = self.view.box(
                who, draws[0 if self.view.is_shared else number], height, width
            )
            example[who] = rectangles.cut_on_host(pixels, box, size)
            example[f"{who}_box"] = box.astype(np.float32)
        return example

    def _viewers(self) -> list[tuple[str, int]]:
        """Lists who needs a separate crop, and its size."""
        view = self.view
        same = view.is_shared and view.teacher_size == view.student_size
        viewers = [("student", view.student_size)]
        if view.has_teacher and not same:
            viewers.append(("teacher", view.teacher_size))
        return viewers

    def _draws(self, place: int) -> np.ndarray:
        """Draws uniform numbers in [0, 1) for two viewers from the stream position."""
        words = digits.draws((self.seed, place), 2 * rectangles.NUM_DRAWS)
        return (words >> np.uint64(11)).reshape(2, -1) * 2.0**-53

    def _read(self, place: int, wanted: int) -> tuple[int, np.ndarray, int]:
        """Reads the wanted example, or a substitute drawn for its stream position."""
        try:
            return wanted, *self.records[wanted]
        except BadRecordError:
            if not self.skip:
                raise
        count = len(self.records)
        drawn = digits.draws((self.seed, place, _STAND_IN), _NUM_STAND_INS)
        for index in (drawn % np.uint64(count)).tolist():
            with contextlib.suppress(BadRecordError):
                return index, *self.records[index]
        raise BadRecordError(
            f"{self.records.where(wanted)} cannot be used, nor can any of "
            f"{_NUM_STAND_INS} drawn in its place from the {count} records of "
            f"{self.records.name} {self.records.split}; prepare the set again"
        )


def end_with_parent(index: int, count: int) -> None:
    """Ends this worker process when its parent process has died.

    A killed parent does not stop its workers. They would wait forever and keep their
    own and the shared memory.

    Args:
      index: worker index, ignored.
      count: number of workers, ignored.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_wait_for, args=(parent.sentinel,), daemon=True).start()


def _wait_for(sentinel: int) -> None:
    """Exits this process when the sentinel's process ends."""
    multiprocessing.connection.wait([sentinel])
    os._exit(1)
