"""Metrics at many parameter points in one pass over the data.

Curves, segments and planes differ only in where their points lie; all of them are
evaluated here.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kd_heuristics import parallel
from kd_heuristics.compiled import as_partial, once

PyTree = Any


def evaluate(
    params_at: Callable[..., PyTree],
    coordinates: Any,
    batches: PyTree,
    metric: Callable[[PyTree, PyTree, PyTree], dict[str, jax.Array]],
    *,
    batch_stats: PyTree = None,
    chunk: int = 8,
    progress: Callable[[int], None] | None = None,
) -> dict[str, np.ndarray]:
    """Mean of each metric over a set, at each of many parameter points.

    One pass over the data serves a chunk of points. The sums of the batches are added
    up in float64, so that a long set loses no digits. The points of a chunk run by
    the shipped table (`parallel.strategies`): mapped on CPU, vmapped elsewhere.

    Args:
      params_at: `coordinate -> params`; `curve.at`, say, whose points are then
        arguments of one program for all curves alike.
      coordinates: a number a point, [points], or a vector a point, [points, d], which
        `params_at` then takes as d arguments.
      batches: a pytree of arrays [num_batches, batch, ...], as of `data.eval_batches`.
      metric: `(params, batch_stats, batch) -> {name: float [batch]}`; an entry "mask"
        ([batch], true where the example counts) is left out of the result. A method
        or function that compares equal between calls compiles once.
      batch_stats: running statistics given to the metric at every point; None: `{}`.
      chunk: points that lie in memory at once.
      progress: called with the number of points done since it was last called.

    Returns: `{name: float64 [points]}`; inf or NaN at a point whose metric overflows.

    Raises:
      ValueError: no points, or no examples.

    >>> batches = {"x": jnp.array([[1.0, 2.0], [3.0, 0.0]]),
    ...            "mask": jnp.array([[True, True], [True, False]])}
    >>> def metric(w, _, batch):
    ...     return {"product": w * batch["x"], "mask": batch["mask"]}
    >>> evaluate(lambda t: 10.0 * t, [0.0, 1.0], batches, metric)["product"].tolist()
    [0.0, 20.0]
    """
    coordinates = jnp.asarray(coordinates, jnp.float32)
    if len(coordinates) == 0:
        raise ValueError("there is no point to evaluate: coordinates is empty")
    if chunk < 1:
        raise ValueError(f"chunk must be at least 1, got {chunk}")
    size = min(chunk, len(coordinates))
    point_of = as_partial(params_at)
    # Compiled where the arrays are arguments; a closure's would become constants.
    stack = _stack_compiled if jax.tree.leaves(point_of) else _stack
    means = []
    for start in range(0, len(coordinates), size):
        part = coordinates[start : start + size]
        # The last chunk is filled up with its last point: one shape, one program.
        filled = jnp.concatenate([part, jnp.repeat(part[-1:], size - len(part), 0)])
        sums = _chunk_sums(
            as_partial(metric),
            stack(point_of, filled),
            {} if batch_stats is None else batch_stats,
            batches,
            parallel.strategies()["points"],
        )
        means.append({k: v[: len(part)] for k, v in _means(sums).items()})
        if progress is not None:
            progress(len(part))
    return {name: np.concatenate([m[name] for m in means]) for name in means[0]}


def _stack(params_at, coordinates):
    """The parameters of each point, stacked."""
    if coordinates.ndim == 1:
        return jax.vmap(params_at)(coordinates)
    return jax.vmap(lambda point: params_at(*point))(coordinates)


_stack_compiled = once(_stack)


@functools.partial(jax.jit, static_argnames="strategy")
def _chunk_sums(metric, params, batch_stats, batches, strategy):
    """Sums of each metric, {name: [num_batches, points]}."""

    def point(params, batch):
        values = dict(metric(params, batch_stats, batch))
        first = next(iter(values.values()))
        mask = values.pop("mask", jnp.ones_like(first, bool))
        # where, not a product: a padded example may hold inf or NaN.
        sums = {k: jnp.where(mask, v, 0).sum() for k, v in values.items()}
        return sums | {"count": mask.sum()}

    def one_batch(_, batch):
        if strategy == "vmap":
            return None, jax.vmap(point, in_axes=(0, None))(params, batch)
        return None, jax.lax.map(lambda p: point(p, batch), params)

    return jax.lax.scan(one_batch, None, batches)[1]


def _means(sums) -> dict[str, np.ndarray]:
    totals = {k: np.asarray(v, np.float64).sum(0) for k, v in sums.items()}
    count = totals.pop("count")
    if not count.all():
        raise ValueError(
            "there is no example to evaluate: the mask is false everywhere"
        )
    return {name: total / count for name, total in totals.items()}


def crossing(values: Any) -> float:
    """How far a path rises above the worse of its ends: a barrier where positive.

    max of values[1:-1] minus max(values[0], values[-1]): footnote 3 of Gotmare et al.
    2019 says that a barrier was crossed where some point of the segment has a higher
    loss than both ends. Negative where every inner point lies below the worse end.

    Args:
      values: a loss along the path, [points], the ends included; at least 3 points.

    >>> crossing([1.0, 3.0, 2.0]), crossing([1.0, 0.5, 2.0])
    (1.0, -1.5)
    """
    values = np.asarray(values, np.float64)
    if len(values) < 3:
        raise ValueError(f"a path needs at least 3 points, got {len(values)}")
    return float(values[1:-1].max() - max(values[0], values[-1]))
