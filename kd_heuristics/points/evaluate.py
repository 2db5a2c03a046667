"""Evaluation at many parameter points, a chunk of points per pass over the data.

Curves, segments and planes differ only in where their points lie, so they share this
module.
"""

import contextlib
import functools
from collections.abc import Callable, Mapping
from typing import Any, SupportsIndex

import flax.errors
import jax
import jax.numpy as jnp
import numpy as np

from kd_heuristics import curves
from kd_heuristics.points.batches import stacked
from kd_heuristics.pytrees import leaf_names
from kd_heuristics.runtime import compiled, parallel
from kd_heuristics.runtime.compiled import as_partial, once
from kd_heuristics.runtime.precision import common_type
from kd_heuristics.runtime.values import integer

PyTree = Any
Metric = Callable[[PyTree, PyTree, PyTree], dict[str, jax.Array]]

CHUNK = 8  # default number of points at once


def evaluate(
    params_at: Callable[..., PyTree],
    coordinates: Any,
    batches: PyTree,
    metric: Metric,
    refresh_stats: Callable[[PyTree], PyTree] | None = None,
    chunk: SupportsIndex | None = None,
    *,
    batch_stats: PyTree = None,
    progress: Callable[[int], None] | None = None,
    mesh: jax.sharding.Mesh | None = None,
) -> dict[str, np.ndarray]:
    """Returns the mean of each metric over a set, at each of many parameter points.

    On GPU and TPU one pass over the data serves a chunk of points, under vmap. On CPU
    the same program runs point after point, which is faster there. The shipped table,
    `parallel.strategies`, determines the choice. Sums over batches are accumulated in
    float64, so that a long set loses no digits.

    Args:
      params_at: `coordinate -> params`, for instance `curve.at`, whose arrays become
        arguments of one program for all curves of the same kind.
      coordinates: one number per point, [points]; or one vector per point, [points, d],
        which `params_at` takes as d arguments.
      batches: a pytree of arrays [num_batches, batch, ...], for instance from
        `data.eval_batches`; or a list or another iterable of batches of one size, which
        are stacked.
      metric: `(params, batch_stats, batch) -> {name: float [batch]}`. An entry "mask"
        ([batch], true for examples that count) is left out of the result. A method or
        function that compares equal between calls compiles once.
      refresh_stats: `params -> batch_stats`, called at every point, for instance
        `points.refit_exact(...)`. Between two networks the statistics of neither
        are valid.
      chunk: points per device that are in memory at once under vmap; the program is
        compiled for that number. `None` takes 8, or fewer if there are fewer points. It
        has no effect on CPU, where points run one after another.
      batch_stats: running statistics given to the metric at every point instead;
        `None` stands for `{}`.
      progress: called with the number of points done since the previous call.
      mesh: devices over which the points are distributed, each with all examples.
        `None` evaluates every point on the devices of the batches, which split the work
        if the batches are split (`parallel.split_batches`).

    Returns: `{name: float64 [points]}`; inf or NaN at a point whose metric overflows.

    Raises:
      ValueError: there are no points, sets or examples; chunk is below 1; a curve's t
        lies outside [0, 1]; batches differ in size; both `batch_stats` and
        `refresh_stats` are given; or a Linen model's batch statistics are missing.

    >>> batches = {"x": jnp.array([[1.0, 2.0], [3.0, 0.0]]),
    ...            "mask": jnp.array([[True, True], [True, False]])}
    >>> def metric(w, _, batch):
    ...     return {"product": w * batch["x"], "mask": batch["mask"]}
    >>> evaluate(lambda t: 10.0 * t, [0.0, 1.0], batches, metric)["product"].tolist()
    [0.0, 20.0]
    """
    found = evaluate_sets(
        params_at,
        coordinates,
        {"": batches},
        metric,
        refresh_stats,
        chunk,
        batch_stats=batch_stats,
        progress=progress,
        mesh=mesh,
    )
    return {name.removeprefix("_"): values for name, values in found.items()}


# Repeats the signature of `evaluate`, so that an editor and the types show it.
def evaluate_sets(
    params_at: Callable[..., PyTree],
    coordinates: Any,
    sets: Mapping[str, PyTree],
    metric: Metric,
    refresh_stats: Callable[[PyTree], PyTree] | None = None,
    chunk: SupportsIndex | None = None,
    *,
    batch_stats: PyTree = None,
    progress: Callable[[int], None] | None = None,
    mesh: jax.sharding.Mesh | None = None,
) -> dict[str, np.ndarray]:
    """Evaluate on several sets, with statistics re-estimated once per point.

    Args:
      params_at: as in `evaluate`.
      coordinates: as in `evaluate`.
      sets: `{"train": batches, "test": batches}`, each as in `evaluate`.
      metric: as in `evaluate`.
      refresh_stats: as in `evaluate`.
      chunk: as in `evaluate`.
      batch_stats: as in `evaluate`.
      progress: called after each set with the number of points done on it.
      mesh: as in `evaluate`.

    Returns: `{"train_loss": float64 [points], ...}`.

    Raises: see `evaluate`.
    """
    # On the host: slicing on the device would cost a dispatch per chunk.
    coordinates = np.asarray(jnp.asarray(coordinates, float))
    devices = 1 if mesh is None else mesh.size
    size = min(CHUNK, -(-len(coordinates) // devices))
    if chunk is not None:
        size = integer("chunk", chunk, 1)
    _check(coordinates, sets, batch_stats, refresh_stats)
    _check_on_curve(params_at, coordinates)
    strategy = parallel.strategies()["points"]
    size = devices * (1 if strategy == "loop" else size)
    stack = _stacker(params_at, mesh)
    shared = {} if batch_stats is None else batch_stats
    sets = {name: stacked(batches) for name, batches in sets.items()}
    everywhere = as_partial(metric), shared, sets
    metric, shared, sets = parallel.replicate(everywhere, mesh)
    if refresh_stats is not None:
        refresh_stats = parallel.replicate(as_partial(refresh_stats), mesh)
    found: dict[str, list] = {}
    for start in range(0, len(coordinates), size):
        part = coordinates[start : start + size]
        # The last chunk is padded to the same shape, so that one program serves all.
        params = stack(
            np.concatenate([part, np.repeat(part[-1:], size - len(part), 0)])
        )
        own = {}
        if refresh_stats is not None:
            own = refreshed(refresh_stats, params, strategy, mesh)
        for name, batches in sets.items():
            with missing_stats_named():
                sums = chunk_sums(metric, params, own, shared, batches, strategy, mesh)
            for key, values in _means(sums, len(part)).items():
                found.setdefault(f"{name}_{key}", []).append(values)
            if progress is not None:
                progress(len(part))
    return {name: np.concatenate(values) for name, values in found.items()}


def _stacker(params_at, mesh):
    """Returns `coordinates -> stacked parameters`, each on its point's device."""
    point_of = as_partial(params_at)
    _check_arrays(point_of)
    # Compile only if the arrays are arguments; a closure's would become constants.
    stack = _stack_compiled if jax.tree.leaves(point_of) else _stack
    if mesh is None:
        return functools.partial(stack, point_of)
    point_of = parallel.replicate(point_of, mesh)
    return lambda points: stack(point_of, parallel.split_members(points, mesh))


def _stack(params_at, coordinates):
    """Returns the parameters of each point, stacked."""
    if coordinates.ndim == 1:
        return jax.vmap(params_at)(coordinates)
    return jax.vmap(lambda point: params_at(*point))(coordinates)


_stack_compiled = once(_stack, effort=1)


def _each(function, points, strategy, mesh, *shared):
    """Returns `function(point, *shared)` for each point of a chunk, stacked.

    With the strategy "loop", a device's part of a chunk is one point. On CPU a loop
    inside the program (lax.map) took 1.3 times as long as a Python loop.
    """

    def part(points, *shared):
        if strategy == "vmap":
            return jax.vmap(lambda point: function(point, *shared))(points)
        found = function(jax.tree.map(lambda leaf: leaf[0], points), *shared)
        return jax.tree.map(lambda leaf: leaf[None], found)

    return parallel.by_parts(part, points, mesh, *shared)


@functools.partial(compiled.jit, static_argnames=("strategy", "mesh"))
def refreshed(refresh_stats, params, strategy, mesh=None):
    """Returns the re-estimated statistics of each point, stacked."""

    def point(params, refresh_stats):
        return refresh_stats(params)

    return _each(point, params, strategy, mesh, refresh_stats)


@functools.partial(compiled.jit, static_argnames=("strategy", "mesh"))
def chunk_sums(metric, params, own_stats, batch_stats, batches, strategy, mesh=None):
    """Returns the sums of each metric, {name: [points, num_batches]}, and the counts.

    The counts are numbers of examples. `own_stats` has a leading axis [points]; if it
    is empty, all points use `batch_stats`. Under vmap, each batch is read once for all
    points.
    """

    def sums(metric, stats, params, batch):
        values = dict(metric(params, stats, batch))
        first = next(iter(values.values()))
        mask = values.pop("mask", jnp.ones_like(first, bool))
        # jnp.where, not a product, because a padded example may hold inf or NaN.
        found = {k: _sum(jnp.where(mask, v, 0)) for k, v in values.items()}
        return found, mask.sum()

    def point(own, metric, batch_stats, batches):
        params, own_stats = own
        stats = own_stats if jax.tree.leaves(own_stats) else batch_stats
        return jax.lax.scan(
            lambda _, batch: (None, sums(metric, stats, params, batch)), None, batches
        )[1]

    shared = metric, batch_stats, batches
    return _each(point, (params, own_stats), strategy, mesh, *shared)


def _sum(values):
    """Sum in at least float32; half precision would round or overflow."""
    if not jnp.issubdtype(values.dtype, jnp.inexact):
        return values.sum()
    return values.sum(dtype=common_type(values.dtype, jnp.float32))


def _means(sums, num_points) -> dict[str, np.ndarray]:
    """Returns each metric's mean at the first `num_points` points, in float64."""
    totals, count = jax.tree.map(
        lambda by_batch: by_batch[:num_points].astype(np.float64).sum(1),
        parallel.to_host(sums),
    )
    if not count.all():
        raise ValueError(
            "there is no example to evaluate: the mask is false everywhere"
        )
    return {name: total / count for name, total in totals.items()}


@contextlib.contextmanager
def missing_stats_named():
    """Turn flax's error on missing batch statistics into one with the remedy."""
    try:
        yield
    except flax.errors.ScopeCollectionNotFound as error:
        raise ValueError(
            "the metric's model lacks a collection of variables; if it has batch "
            "norm, give refresh_stats (for instance points.refit_exact) or "
            f"batch_stats ({error})"
        ) from error


def _check(coordinates, sets, batch_stats, refresh_stats):
    """Raise ValueError for empty or contradictory arguments."""
    if len(coordinates) == 0:
        raise ValueError("there is no point to evaluate: coordinates is empty")
    if not sets:
        raise ValueError("there is no set to evaluate on: sets is empty")
    if jax.tree.leaves(batch_stats) and refresh_stats is not None:
        raise ValueError(
            "give batch_stats, the same at every point, or refresh_stats, not both"
        )


def _check_on_curve(params_at, coordinates):
    """Raise ValueError if a curve's t lies outside [0, 1]."""
    # `Curve.at` cannot check t itself, because t is traced here.
    if isinstance(getattr(params_at, "__self__", None), curves.Curve):
        outside = coordinates[~((coordinates >= 0) & (coordinates <= 1))]
        if len(outside):
            raise ValueError(f"t must be in [0, 1], got {outside.tolist()}")


def _check_arrays(point_of):
    """Raise ValueError if a leaf of the points is not an array."""
    leaves = zip(leaf_names.names(point_of), jax.tree.leaves(point_of), strict=True)
    for name, leaf in leaves:
        if not isinstance(leaf, (jax.Array, np.ndarray, np.generic, float, int)):
            raise ValueError(
                f"leaf {name!r} of the points is a {type(leaf).__name__}, not an array;"
                " keep it out of the curve (equinox.partition) and combine in the "
                "metric"
            )
