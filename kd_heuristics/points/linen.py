"""Moments of the batch-norm inputs of an unchanged Linen model."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from kd_heuristics.pytrees import leaf_names
from kd_heuristics.runtime.compiled import as_partial
from kd_heuristics.runtime.precision import widened

PyTree = Any


def linen_moments(apply: Callable[[PyTree, PyTree, PyTree], Any]) -> Callable:
    """Returns a function for moments of batch-norm inputs; see `points.refit_exact`.

    A batch-norm layer is any module whose own part of "batch_stats" is "mean" and
    "var", such as `flax.linen.BatchNorm` and that of `models`. Its channels are the
    last axis, or those of its attribute `axis`.

    Args:
      apply: `(params, batch_stats, batch) -> anything`, the model in evaluation mode.
        Its layers are observed during tracing, so it must not be jitted already, and no
        layer may lie inside `nn.scan`, `nn.remat` or `nn.jit`, or be called twice.

    Returns: `(params, batch_stats, batch) -> {layer: {"mean": [...], "var": [...]}}`,
      nested like the collection "batch_stats": mean and biased variance over all axes
      but the layer's own, in float32 or wider.

    Raises (when called): ValueError if no batch-norm layer ran, one ran twice, or one
      was in training mode.
    """
    return jax.tree_util.Partial(_watched, as_partial(apply))


def _watched(apply, params, batch_stats, batch):
    """Run the model and record the moments of each batch-norm layer's input."""
    layers = {
        leaf_names.keys_of(path[:-1])
        for path, _ in jax.tree_util.tree_leaves_with_path(batch_stats)
    }
    found = {}

    def watch(call, args, kwargs, context):
        layer = context.module
        if layer.path in layers and context.method_name == "__call__":
            _check(layer, kwargs, found)
            x = jnp.asarray(args[0] if args else kwargs["x"])
            found[layer.path] = _moments(x, getattr(layer, "axis", -1))
        return call(*args, **kwargs)

    with nn.intercept_methods(watch):
        apply(params, batch_stats, batch)
    if not found:
        raise ValueError(
            "no layer of batch_stats ran: the model has no flax.linen batch norm, or "
            "apply was jitted before and is not traced again; give the function "
            "without jax.jit"
        )
    return _nested(found)


def _check(layer, kwargs, found):
    """Raise ValueError if a layer is in training mode or has already run."""
    name = "/".join(layer.path)
    evaluates = kwargs.get("use_running_average")
    if evaluates is None:
        evaluates = getattr(layer, "use_running_average", True)
    if not evaluates:
        raise ValueError(
            f"batch norm {name!r} is in training mode; apply the model in evaluation "
            "mode, in which every layer normalises by batch_stats"
        )
    if layer.path in found:
        raise ValueError(
            f"batch norm {name!r} is called twice, so its input has no single mean; "
            "use points.refit_pooled"
        )


def _moments(x: jax.Array, axis: int | tuple[int, ...]) -> dict[str, jax.Array]:
    """Returns mean and biased variance over all axes but `axis`."""
    axes = axis if isinstance(axis, tuple) else (axis,)
    own = {axis % x.ndim for axis in axes}
    others = tuple(axis for axis in range(x.ndim) if axis not in own)
    x = widened(x)
    return {"mean": x.mean(others), "var": x.var(others)}


def _nested(found):
    """Convert moments by path to nested dictionaries."""
    tree: dict[str, Any] = {}
    for path, moments in found.items():
        level = tree
        for name in path[:-1]:
            level = level.setdefault(name, {})
        level[path[-1]] = moments
    return tree
