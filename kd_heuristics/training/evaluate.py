"""Evaluation of one network on a set."""

from collections.abc import Callable
from typing import Any

import jax

from kd_heuristics import points
from kd_heuristics.runtime import parallel

PyTree = Any


def evaluate(
    metric: Callable[..., dict],
    params: PyTree,
    batch_stats: PyTree,
    batches: PyTree,
    *,
    mesh: jax.sharding.Mesh | None = None,
) -> dict[str, float]:
    """Returns the mean of each metric over a set; every example counts once.

    Args:
      metric: `(params, batch_stats, batch) -> {name: [batch]}`, as `points.evaluate`
        takes it; its "mask" marks the examples that count.
      params: the network's parameters.
      batch_stats: its running statistics; `{}` if it has none.
      batches: arrays [num_batches, batch, ...], for instance from `data.eval_batches`.
      mesh: devices over which each batch is split, from `parallel.mesh`; `None` uses
        the devices that hold the arrays.

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
