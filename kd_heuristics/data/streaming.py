"""Reads, decodes and crops batches of a prepared set on the host during training.

    stream = data.stream("oxford_flowers102", "train", 512, seed, view=view, workers=8)
    for step, batch in stream.batches(first_step):
        seen = view.finish(batch, key_of(step))  # in the compiled step

Every batch is a function of the seed and the step, so a resumed run starts at the step
where it stopped. Worker processes are spawned, so a script that uses them must guard
its entry with `if __name__ == "__main__":`.
"""

import collections
import contextlib
import dataclasses
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any, SupportsIndex

import jax
import jax.numpy as jnp
import numpy as np

from kd_heuristics.data import described, loading, rows
from kd_heuristics.data.batches import check_remainder, steps_per_epoch
from kd_heuristics.data.records import BadRecordError, Records
from kd_heuristics.data.views import View
from kd_heuristics.runtime import nearest, parallel, values


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stream:
    """Produces the training batches of a set; create it with `stream`.

    Calling it with a step returns that batch on the host, as NumPy arrays; `stream`
    lists the contents. `batches` reads ahead and puts batches on the devices.

    Attributes:
      records: the examples.
      batch_size: examples per step, over all processes.
      seed: seed of the order and the crops.
      view: defines the crops of teacher and student.
      rows: rows of each batch that this process reads.
      workers: number of reading processes; 0 reads in threads of this process.
      threads: number of reading threads if there are no workers.
      on_bad: "stop" or "skip".
      bad_share: with "skip", the largest share of an epoch's examples to substitute.
      remainder: "drop" or "carry", see `data.batch_indices`.
      mesh: devices over which batches are split.
    """

    records: Records
    batch_size: int
    seed: int
    view: View
    rows: tuple[int, ...]
    workers: int
    threads: int
    on_bad: str
    bad_share: float
    remainder: str
    mesh: jax.sharding.Mesh | None

    @property
    def num_classes(self) -> int:
        """Number of classes of the set."""
        return self.records.entry.num_classes

    @property
    def num_examples(self) -> int:
        """Number of examples in the split."""
        return len(self.records)

    @property
    def steps_per_epoch(self) -> int:
        """Number of whole batches in a pass over the split."""
        return steps_per_epoch(self.num_examples, self.batch_size)

    def __call__(self, step: SupportsIndex) -> dict[str, np.ndarray]:
        """Reads this process's rows of a step's batch on the host."""
        step = values.integer("step", step, 0)
        batch = self.dataset(step, step + 1)[0]
        self._count_bad(step, batch, 0)
        return batch

    def batches(
        self, first_step: int = 0, last_step: int | None = None, *, ahead: int = 2
    ) -> Generator[tuple[int, dict[str, jax.Array]], None, None]:
        """Yields steps and their batches on the devices, from `first_step` on.

        Its workers end when it is exhausted or closed (`contextlib.closing`).

        Args:
          first_step: step to start or resume at.
          last_step: step to stop before; `None` never stops.
          ahead: number of batches put on the devices in advance.
        """
        waiting: collections.deque = collections.deque()
        dataset: Any = self.dataset(first_step, last_step).to_iter_dataset(self._read)
        if self.workers:
            dataset = _in_workers(dataset, self.workers)
        bad = 0
        with contextlib.closing(iter(dataset)) as batches:
            for step, batch in enumerate(batches, start=first_step):
                bad = self._count_bad(step, batch, bad)
                if self.workers:
                    # Copy out of the memory shared with the workers: a CPU device does
                    # not copy and would keep that memory.
                    batch = jax.tree.map(np.array, batch)
                waiting.append((step, self.place(batch)))
                if len(waiting) > ahead:
                    yield waiting.popleft()
            yield from waiting

    @contextlib.contextmanager
    def windows(self, num_steps: int) -> Iterator[Callable]:
        """Passes batches of several steps as one argument of a compiled call.

        It yields `read`. `read(first, last)` returns `(seed, step) -> batch` for the
        steps from `first` to before `last`, at most `num_steps` of them. Consecutive
        calls read ahead. The function ignores the seed, because a stream has its own.
        The devices hold twice `num_steps` batches: those in training and those being
        read.
        """
        reader: Any = None
        position = -1

        def read(first, last):
            nonlocal reader, position
            if first != position:
                if reader is not None:
                    reader.close()
                reader = self.batches(first, ahead=1)
            batches = [next(reader)[1] for _ in range(first, last)]
            position = last
            # Pad a shorter last call, so that all calls share a shape and a program.
            batches += batches[-1:] * (num_steps - len(batches))
            stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *batches)
            return jax.tree_util.Partial(_of_window, stacked, jnp.int32(first))

        try:
            yield read
        finally:
            if reader is not None:
                reader.close()

    def dataset(self, first_step: int = 0, last_step: int | None = None) -> Any:
        """Returns Grain's `MapDataset` of host batches; element 0 is `first_step`."""
        import grain

        last_step = values.LARGEST if last_step is None else last_step
        selected: Any = loading.Rows(
            self.num_examples,
            self.batch_size,
            self.seed,
            self.rows,
            self.remainder,
            first_step,
            last_step,
        )
        load = loading.Load(self.records, self.view, self.seed, self.on_bad == "skip")
        return grain.MapDataset.source(selected).map(load).batch(len(self.rows))

    def place(self, batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
        """Puts a host's batch on its devices without waiting for them."""
        if self.mesh is None:
            return jax.device_put(batch)
        sharding = parallel.batch_sharding(self.mesh)
        first_of = {row: place for place, row in enumerate(self.rows)}

        def put(array):
            shape = (self.batch_size, *array.shape[1:])

            def shard(index):
                start, stop, _ = index[0].indices(self.batch_size)
                return array[first_of[start] : first_of[start] + stop - start]

            return jax.make_array_from_callback(shape, sharding, shard)

        return {name: put(array) for name, array in batch.items()}

    def _count_bad(self, step: int, batch: dict[str, np.ndarray], before: int) -> int:
        """Counts this epoch's bad records so far; raises if they are too many."""
        bad, substituted = before, batch["substituted"]
        epochs, read = self._epochs(step), self._read_per_epoch
        last = self._epochs(step - 1)[-1] if step else epochs[0]
        for epoch in np.unique(epochs):
            bad = bad if epoch == last else 0
            bad += int(substituted[epochs == epoch].sum())
            if bad > self.bad_share * read:
                raise BadRecordError(
                    f"{bad} of the {read} examples that an epoch reads from "
                    f"{self.records.name} {self.records.split} cannot be used, more "
                    f"than bad_share={self.bad_share:g} permits (step {step}); prepare "
                    "the set again, or raise bad_share"
                )
        return bad

    def _epochs(self, step: int) -> np.ndarray:
        """The epoch of each row that this process reads in a step."""
        if self.remainder == "drop":
            return np.full(len(self.rows), step // self.steps_per_epoch)
        return (step * self.batch_size + np.array(self.rows)) // self.num_examples

    @property
    def _read_per_epoch(self) -> int:
        """Examples that this process reads in an epoch; rounded if they vary."""
        if self.remainder == "drop":
            return self.steps_per_epoch * len(self.rows)
        return round(self.num_examples * len(self.rows) / self.batch_size)

    @property
    def _read(self) -> Any:
        """Grain's options for reading in threads."""
        import grain

        threads = 1 if self.workers else self.threads
        return grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads + 1)


def stream(
    name: str,
    split: str,
    batch_size: SupportsIndex,
    seed: SupportsIndex = 0,
    *,
    view: View,
    workers: SupportsIndex = 0,
    threads: SupportsIndex = 4,
    on_bad: str = "stop",
    bad_share: float = 0.01,
    remainder: str = "drop",
    mesh: jax.sharding.Mesh | None = None,
    process_index: int | None = None,
    process_count: int | None = None,
) -> Stream:
    """Streams endless, shuffled training batches of a prepared set.

    Each epoch has a new order and visits every example once. With remainder="drop" it
    leaves out those of the last, incomplete batch. A batch holds, for this process's b
    examples,

    - "student" uint8 [b, student_size, student_size, 3], cropped from the original, and
      "student_box" float32 [b, 4], its rectangle in the original's pixels;
    - "teacher" and "teacher_box", likewise, unless the teacher sees the student's
      pixels or its targets are stored;
    - "labels" int32 [b], and "index" int32 [b], the examples' indices in the split;
    - "substituted" bool [b]: true for an example that replaces a bad record.

    `view.finish(batch, key)` flips and mixes them on the device.

    Args:
      name: a set that tfds prepared, one of ours or "tfds:NAME[:CONFIG]".
      split: "train", or another split of the set.
      batch_size: examples per step, over all processes.
      seed: seed of the order and the crops, from 0 to 2^32 - 1.
      view: defines the crops of teacher and student; see `views.create`. Supervised
        training uses the student's crops of "same/ic".
      workers: number of processes that read and decode. 0 reads in `threads` of this
        process, which suffices if decoding dominates, because it releases the GIL.
      threads: number of reading threads if there are no workers.
      on_bad: what to do with a record that is not a labelled image. "stop" raises
        BadRecordError; "skip" substitutes and marks an example drawn from the seed and
        the step. Metrics lines report the share of such examples as "substituted". A
        file that is missing or cannot be opened always stops.
      bad_share: with "skip", the largest share of an epoch's examples whose records may
        be bad, in [0, 1]; one more raises BadRecordError.
      remainder: "drop" leaves out the examples of an epoch's last, incomplete batch;
        "carry" batches them with the first ones of the next epoch, as in
        `data.batch_indices`.
      mesh: devices over which batches are split, from `parallel.mesh`; `None` uses the
        default device.
      process_index: index of this process; `None` asks JAX.
      process_count: number of processes; `None` asks JAX. With a mesh, each process
        reads the rows that its devices need.

    Raises:
      ValueError: a name, split or number is invalid, the batch exceeds the split or
        the processes do not divide it, or the set has unexpected classes.
      MissingDatasetError: the set was not prepared, or lacks a file; the message has
        the command.
    """
    nearest.choose(split, described.entry(name).splits, f"split of {name}")
    nearest.choose(on_bad, ("stop", "skip"), "answer to a bad record")
    check_remainder(remainder, ("drop", "carry"))
    seed = values.integer("seed", seed)
    if not 0 <= seed <= values.LARGEST_SEED:
        raise ValueError(f"seed must lie in 0..2^32 - 1, got {seed}")
    batch_size = values.integer("batch_size", batch_size, 1)
    workers = values.integer("workers", workers, 0)
    threads = values.integer("threads", threads, 1)
    if not 0 <= bad_share <= 1:
        raise ValueError(f"bad_share must lie in [0, 1], got {bad_share}")
    if mesh is not None:
        own = rows.of_mesh(mesh, batch_size)
    else:
        own = rows.of_process(batch_size, process_index, process_count)
    records = Records(name, split)
    steps_per_epoch(len(records), batch_size)
    return Stream(
        records=records,
        batch_size=batch_size,
        seed=seed,
        view=view,
        rows=own,
        workers=workers,
        threads=threads,
        on_bad=on_bad,
        bad_share=bad_share,
        remainder=remainder,
        mesh=mesh,
    )


def batch_metrics(batch: Any) -> dict[str, jax.Array]:
    """Computes the metrics of a batch itself.

    Returns: for a batch of a stream, "substituted", the share of its examples that
      replace bad records; `{}` for other batches.
    """
    if not isinstance(batch, Mapping) or "substituted" not in batch:
        return {}
    return {"substituted": jnp.asarray(batch["substituted"], jnp.float32).mean()}


def _in_workers(dataset, workers):
    """Lets worker processes read Grain's dataset, in the same order."""
    import grain
    from absl import flags

    # Grain's workers read options from absl's flags. A program without absl never
    # parses them, so mark them as parsed with their defaults.
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
    options = grain.MultiprocessingOptions(
        num_workers=workers, per_worker_buffer_size=2
    )
    return dataset.mp_prefetch(options, loading.end_with_parent)


def _of_window(stacked, first, seed, step):
    """Selects a step's batch of a window; the seed is ignored."""
    return jax.tree.map(lambda leaf: leaf[step - first], stacked)
