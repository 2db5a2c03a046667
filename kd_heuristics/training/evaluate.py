"""Metrics of one network over a set."""

from collections.abc import Callable
from typing import Any

import jax

from kd_heuristics import parallel, points

PyTree = Any


def evaluate(
    metric: Callable[..., dict],
    params: PyTree,
    batch_stats: PyTree,
    batches: PyTree,
    *,
    mesh: jax.sharding.Mesh | None = None,
) -> dict[str, float]:
    """Mean of each metric over every example of a set, each counted once.

    Args:
      metric: `(params, batch_stats, batch) -> {name: [batch]}`, as `points.evaluate`
        takes it; its "mask" says which examples count.
      params: the network's parameters.
      batch_stats: its running statistics, `{}` where it has none.
      batches: arrays [num_batches, batch, ...], as of `data.eval_batches`.
      mesh: devices over which each batch is split, as of `parallel.mesh`; None:
        wherever the arrays lie.

    Returns: `{name: mean}`.

    Raises:
      ValueError: the mesh does not divide the batch.
    """
    if mesh is not None:
        params, batch_stats = parallel.replicate((params, batch_stats), mesh)
        batches = parallel.split_batches(batches, mesh)
    means = points.evaluate(
        lambda _: params, [0.0], batches, metric, batch_stats=batch_stats
    )
    return {name: float(value[0]) for name, value in means.items()}
