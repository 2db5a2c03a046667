"""What a process that reads a stream does: which examples, and what is cut from them.

All of it is NumPy and can be sent to another process.
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

# Draws of examples that stand in for one, apart from those of its crops.
_STAND_IN, _NUM_STAND_INS = 2**32 - 1, 100


@dataclasses.dataclass(frozen=True)
class Rows:
    """Examples of some rows of each batch, as a random access source of Grain's.

    Element i is `(place, number)`: where the example stands, counted over all batches
    from step 0, and which one of the set it is.

    Attributes:
      num_examples: of the set.
      batch_size: examples a step, over all processes.
      seed: of the order.
      rows: those of each batch that are wanted.
      first_step: of element 0.
      last_step: where the source ends, not included.
    """

    num_examples: int
    batch_size: int
    seed: int
    rows: tuple[int, ...]
    first_step: int
    last_step: int

    def __len__(self) -> int:
        return (self.last_step - self.first_step) * len(self.rows)

    def __getitem__(self, element: int) -> tuple[int, int]:
        step, row = divmod(int(element), len(self.rows))
        step, row = self.first_step + step, self.rows[row]
        steps = steps_per_epoch(self.num_examples, self.batch_size)
        epoch, batch = divmod(step, steps)
        within = batch * self.batch_size + row
        number = self._order[epoch * self.num_examples + within]
        return step * self.batch_size + row, int(number)

    @functools.cached_property
    def _order(self) -> Any:
        """Grain's shuffled numbers, another order each epoch."""
        import grain

        # Grain adds the epoch to the seed: neighbouring seeds would share their epochs.
        seed = np.random.SeedSequence(self.seed).generate_state(1)[0]
        return grain.MapDataset.range(self.num_examples).shuffle(seed=int(seed))


@dataclasses.dataclass(frozen=True)
class Load:
    """Reads an example and cuts out what its viewers see.

    Attributes:
      records: the examples.
      view: who sees which pixels.
      seed: of the crops.
      skip: whether another example stands in for one whose record is bad.
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
        """Who needs pixels of its own, and at which size."""
        view = self.view
        same = view.is_shared and view.teacher_size == view.student_size
        viewers = [("student", view.student_size)]
        if view.has_teacher and not same:
            viewers.append(("teacher", view.teacher_size))
        return viewers

    def _draws(self, place: int) -> np.ndarray:
        """Uniform numbers in [0, 1) for two viewers, of the place in the stream."""
        words = digits.draws((self.seed, place), 2 * rectangles.NUM_DRAWS)
        return (words >> np.uint64(11)).reshape(2, -1) * 2.0**-53

    def _read(self, place: int, wanted: int) -> tuple[int, np.ndarray, int]:
        """The example that is wanted, or one drawn for its place in the stream."""
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
    """In a worker process: ends it when the process that started it has died.

    A process that is killed stops nobody. Its workers would wait for ever, and keep
    their memory and what they share with it.

    Args:
      index: of the worker; ignored.
      count: of the workers; ignored.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_wait_for, args=(parent.sentinel,), daemon=True).start()


def _wait_for(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    os._exit(1)
