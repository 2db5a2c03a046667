"""What the batch-norm layers of a Linen model get, without a change to the model."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from kd_heuristics import leaf_names
from kd_heuristics.compiled import as_partial
from kd_heuristics.precision import widened

PyTree = Any


def linen_moments(apply: Callable[[PyTree, PyTree, PyTree], Any]) -> Callable:
    """The moments of each batch-norm layer's input, for `points.exact`.

    A batch-norm layer is any module whose own part of "batch_stats" is "mean" and
    "var": `flax.linen.BatchNorm`, `models`' own, others alike. Its channels are the
    last axis, or what its attribute `axis` says.

    Args:
      apply: `(params, batch_stats, batch) -> anything`, the model in evaluation mode.
        Its layers are watched while it is traced, so it must not be jitted before, nor
        may a layer lie inside `nn.scan`, `nn.remat` or `nn.jit`, or be called twice.

    Returns: `(params, batch_stats, batch) -> {layer: {"mean": [...], "var": [...]}}`,
      nested as the collection "batch_stats": mean and biased variance over all axes but
      the layer's own, in float32 or wider.

    Raises (when called): ValueError where no batch-norm layer was seen, one was seen
      twice, or one was in training mode.
    """
    return jax.tree_util.Partial(_watched, as_partial(apply))


def _watched(apply, params, batch_stats, batch):
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
    name = "/".join(layer.path)
    evaluates = kwargs.get("use_running_average")
    if evaluates is None:
        evaluates = getattr(layer, "use_running_average", True)
    if not evaluates:
        raise ValueError(
            f"batch norm {name!r} is in training mode; its input's moments are wanted "
            "where every layer normalises by batch_stats"
        )
    if layer.path in found:
        raise ValueError(
            f"batch norm {name!r} is called twice, so its input has no one mean; use "
            "points.pooled"
        )


def _moments(x: jax.Array, axis: int | tuple[int, ...]) -> dict[str, jax.Array]:
    axes = axis if isinstance(axis, tuple) else (axis,)
    own = {axis % x.ndim for axis in axes}
    others = tuple(axis for axis in range(x.ndim) if axis not in own)
    x = widened(x)
    return {"mean": x.mean(others), "var": x.var(others)}


def _nested(found):
    tree: dict[str, Any] = {}
    for path, moments in found.items():
        level = tree
        for name in path[:-1]:
            level = level.setdefault(name, {})
        level[path[-1]] = moments
    return tree
