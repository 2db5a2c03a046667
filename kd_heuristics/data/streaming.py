"""Batches of a prepared set, read, decoded and cut on the host while devices train.

    stream = data.stream("oxford_flowers102", "train", 512, seed, view=view, workers=8)
    for step, batch in stream.batches(first_step):
        seen = view.finish(batch, key_of(step))  # in the compiled step

Everything is a function of the seed and the step: a resumed run asks for the step where
it stopped. Worker processes are spawned, so a script that uses them must guard its
entry with `if __name__ == "__main__":`.
"""

import collections
import contextlib
import dataclasses
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any, SupportsIndex

import jax
import jax.numpy as jnp
import numpy as np

from kd_heuristics import integers, nearest, parallel
from kd_heuristics.data import loading
from kd_heuristics.data.batches import steps_per_epoch
from kd_heuristics.data.prepared import SETS
from kd_heuristics.data.records import BadRecordError, Records
from kd_heuristics.data.views import View


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stream:
    """The training batches of a set; made by `stream`.

    `stream(step)` is a batch on the host, NumPy's arrays; see `stream` for what is in
    it. `batches` reads ahead and puts them on the devices.

    Attributes:
      records: the examples.
      batch_size: examples a step, over all processes.
      seed: of the order and the crops.
      view: what is cut out for whom.
      rows: which of a batch's examples this process reads.
      workers: processes that read; 0: threads of this one.
      threads: that read, where there are no workers.
      on_bad: "stop" or "skip".
      bad_share: with "skip", the largest share of an epoch's examples to substitute.
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
    mesh: jax.sharding.Mesh | None

    @property
    def num_classes(self) -> int:
        """Of the set."""
        return SETS[self.records.name].num_classes

    @property
    def num_examples(self) -> int:
        """In the split."""
        return len(self.records)

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in a pass over the split."""
        return steps_per_epoch(self.num_examples, self.batch_size)

    def __call__(self, step: SupportsIndex) -> dict[str, np.ndarray]:
        """The rows of this process of the batch of a step, on the host."""
        step = integers.integer("step", step, 0)
        batch = self.dataset(step, step + 1)[0]
        self._count_bad(step, batch, 0)
        return batch

    def batches(
        self, first_step: int = 0, last_step: int | None = None, *, ahead: int = 2
    ) -> Generator[tuple[int, dict[str, jax.Array]], None, None]:
        """Steps and their batches on the devices, from `first_step` on.

        Close it (`contextlib.closing`) or exhaust it, and its workers end.

        Args:
          first_step: of all steps, where a resumed run goes on.
          last_step: where it ends, not included; None: never.
          ahead: batches that are on the devices before they are asked for.
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
                    # Out of the memory shared with them: a CPU device would not copy,
                    # and keep it for as long as it likes.
                    batch = jax.tree.map(np.array, batch)
                waiting.append((step, self.place(batch)))
                if len(waiting) > ahead:
                    yield waiting.popleft()
            yield from waiting

    @contextlib.contextmanager
    def windows(self, num_steps: int) -> Iterator[Callable]:
        """Batches of several steps as one argument of a compiled call.

        `read(first, last)` returns `(seed, step) -> batch` for the steps from `first`
        to `last`, at most `num_steps`; calls that follow each other read ahead. The
        seed is ignored: a stream has its own. On the devices are `num_steps` batches
        twice, those that are trained on and those that are read.
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
            # One shape for all calls, the last and shorter one too: one program.
            batches += batches[-1:] * (num_steps - len(batches))
            stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *batches)
            return jax.tree_util.Partial(_of_window, stacked, jnp.int32(first))

        try:
            yield read
        finally:
            if reader is not None:
                reader.close()

    def dataset(self, first_step: int = 0, last_step: int | None = None) -> Any:
        """Grain's `MapDataset` of the host's batches; element 0 is of `first_step`."""
        import grain

        last_step = integers.LARGEST if last_step is None else last_step
        rows: Any = loading.Rows(
            self.num_examples,
            self.batch_size,
            self.seed,
            self.rows,
            first_step,
            last_step,
        )
        load = loading.Load(self.records, self.view, self.seed, self.on_bad == "skip")
        return grain.MapDataset.source(rows).map(load).batch(len(self.rows))

    def place(self, batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
        """A host's batch on its devices, which go on with what they do meanwhile."""
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
        """The bad records of this epoch so far; raises where they are too many."""
        bad = int(batch["substituted"].sum())
        bad += before if step % self.steps_per_epoch else 0
        read = self.steps_per_epoch * len(self.rows)
        if bad > self.bad_share * read:
            raise BadRecordError(
                f"{bad} of the {read} examples that an epoch reads from "
                f"{self.records.name} {self.records.split} cannot be used, more than "
                f"bad_share={self.bad_share:g} permits (step {step}); prepare the set "
                "again, or permit more"
            )
        return bad

    @property
    def _read(self) -> Any:
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
    mesh: jax.sharding.Mesh | None = None,
    process_index: int | None = None,
    process_count: int | None = None,
) -> Stream:
    """The endless, shuffled batches of a prepared set for training.

    Each epoch has every example once, in an order of its own, but for those of the last
    incomplete batch. A batch holds, for its b examples of this process,

    - "student" uint8 [b, student_size, student_size, 3], cut from the original, and
      "student_box" float32 [b, 4], its rectangle in the original's pixels;
    - "teacher" and "teacher_box", unless they are the student's, or stored;
    - "labels" int32 [b], and "index" int32 [b], the examples' places in the split;
    - "substituted" bool [b]: where the record that belongs here is bad.

    `view.finish(batch, key)` flips and mixes them on the device.

    Args:
      name: of a prepared set: a key of `prepared.SETS`.
      split: "train", or another one that the set has.
      batch_size: examples a step, over all processes.
      seed: of the order and the crops, from 0 to 2^32 - 1.
      view: who sees which pixels, of `views.create`; supervised training takes the
        student of "same/ic".
      workers: processes that read and decode. 0: `threads` of this one, which suffices
        where decoding, which runs beside Python, is most of the work.
      threads: where there are no workers.
      on_bad: what a bad record does, one that is no image with a label: "stop" raises
        BadRecordError; "skip" puts an example in its place, drawn from the seed and the
        step, and marks it. A training's metrics lines have the share of such examples,
        "substituted". A file that is missing or cannot be opened always stops.
      bad_share: with "skip", the largest share of an epoch's examples whose records may
        be bad, in [0, 1]; BadRecordError is raised at the first one beyond it.
      mesh: devices over which batches are split, as of `parallel.mesh`; None: they go
        to the default device.
      process_index: of this process; None: what JAX says.
      process_count: of all processes; None: what JAX says. With a mesh, each reads the
        rows that its devices need.

    Raises:
      ValueError: an unknown name, split or number; a batch larger than the split or not
        divided by the processes; a set of other classes than expected.
      MissingDatasetError: the set was not prepared, or lacks a file; the message has
        the command.
    """
    nearest.choose(name, SETS, "prepared dataset")
    nearest.choose(split, SETS[name].splits, f"split of {name}")
    nearest.choose(on_bad, ("stop", "skip"), "answer to a bad record")
    seed = integers.integer("seed", seed)
    if not 0 <= seed <= integers.LARGEST_SEED:
        raise ValueError(f"seed must lie in 0..2^32 - 1, got {seed}")
    batch_size = integers.integer("batch_size", batch_size, 1)
    workers = integers.integer("workers", workers, 0)
    threads = integers.integer("threads", threads, 1)
    if not 0 <= bad_share <= 1:
        raise ValueError(f"bad_share must lie in [0, 1], got {bad_share}")
    if mesh is not None:
        rows = _rows_of_mesh(mesh, batch_size)
    else:
        rows = _rows_of_process(batch_size, process_index, process_count)
    records = Records(name, split)
    steps_per_epoch(len(records), batch_size)
    return Stream(
        records=records,
        batch_size=batch_size,
        seed=seed,
        view=view,
        rows=rows,
        workers=workers,
        threads=threads,
        on_bad=on_bad,
        bad_share=bad_share,
        mesh=mesh,
    )


def batch_metrics(batch: Any) -> dict[str, jax.Array]:
    """What a metrics line says of a batch itself.

    Returns: "substituted", the share of its examples that stand in for bad records, of
      a batch of a stream; nothing of other batches.
    """
    if not isinstance(batch, Mapping) or "substituted" not in batch:
        return {}
    return {"substituted": jnp.asarray(batch["substituted"], jnp.float32).mean()}


def _in_workers(dataset, workers):
    """Grain's dataset, read by processes; the order stays."""
    import grain
    from absl import flags

    # Grain's workers take its options from absl's flags, which a program that does not
    # use absl never parses: all then have their defaults.
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
    options = grain.MultiprocessingOptions(
        num_workers=workers, per_worker_buffer_size=2
    )
    return dataset.mp_prefetch(options, loading.end_with_parent)


def _of_window(stacked, first, seed, step):
    return jax.tree.map(lambda leaf: leaf[step - first], stacked)


def _rows_of_process(batch_size, process_index, process_count) -> tuple[int, ...]:
    """Neighbouring rows, so that the whole batch is the same for any count."""
    index = jax.process_index() if process_index is None else process_index
    count = jax.process_count() if process_count is None else process_count
    if not 0 <= index < count:
        raise ValueError(f"process_index must lie in 0..{count - 1}, got {index}")
    if batch_size % count:
        raise ValueError(
            f"a batch of {batch_size} cannot be split over {count} processes; choose a "
            f"multiple of {count}"
        )
    rows = batch_size // count
    return tuple(range(index * rows, (index + 1) * rows))


def _rows_of_mesh(mesh, batch_size) -> tuple[int, ...]:
    """The rows that the devices of this process hold."""
    parallel.check_divides(batch_size, mesh)
    parts: Any = parallel.batch_sharding(mesh).addressable_devices_indices_map(
        (batch_size,)
    )
    rows: set[int] = set()
    for (part,) in parts.values():
        rows.update(range(batch_size)[part])
    return tuple(sorted(rows))
