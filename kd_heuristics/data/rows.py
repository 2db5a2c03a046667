"""Which rows of each batch a process reads."""

from typing import Any

import jax

from kd_heuristics.runtime import parallel


def of_process(batch_size, process_index, process_count) -> tuple[int, ...]:
    """Selects consecutive rows, so that the whole batch is the same for any count."""
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


def of_mesh(mesh, batch_size) -> tuple[int, ...]:
    """Selects the rows that the devices of this process hold."""
    parallel.check_divides(batch_size, mesh)
    parts: Any = parallel.batch_sharding(mesh).addressable_devices_indices_map(
        (batch_size,)
    )
    rows: set[int] = set()
    for (part,) in parts.values():
        rows.update(range(batch_size)[part])
    return tuple(sorted(rows))
