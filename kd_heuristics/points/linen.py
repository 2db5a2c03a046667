"""Watches the batch-norm layers of a Linen model."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from kd_heuristics.pytrees import leaf_names

PyTree = Any


@contextlib.contextmanager
def watching(
    batch_stats: PyTree,
    found: dict[leaf_names.Keys, dict[str, jax.Array]],
    moments: Callable[..., dict[str, jax.Array]],
) -> Iterator[None]:
    """Record the moments of each layer's input in `found`, by the layer's path.

    Args:
      batch_stats: the collection; its modules are the layers.
      found: gains `{("block", "norm"): {"mean": ..., "var": ...}}`.
      moments: `(x, axis) -> {"mean": ..., "var": ...}`.
    """
    layers = {
        leaf_names.keys_of(path[:-1])
        for path, _ in jax.tree_util.tree_leaves_with_path(batch_stats)
    }

    def watch(call, args, kwargs, context):
        layer = context.module
        if layer.path in layers and context.method_name == "__call__":
            evaluates = kwargs.get("use_running_average")
            if evaluates is None:
                evaluates = getattr(layer, "use_running_average", True)
            check("/".join(layer.path), evaluates, again=layer.path in found)
            refuse_mask(f"batch norm {'/'.join(layer.path)!r}", kwargs.get("mask"))
            x = jnp.asarray(args[0] if args else kwargs["x"])
            found[layer.path] = moments(x, getattr(layer, "axis", -1))
        return call(*args, **kwargs)

    with nn.intercept_methods(watch):
        yield


def refuse_mask(name: str, mask: object) -> None:
    """Raise ValueError if a layer is told to leave out positions of its input."""
    if mask is not None:
        raise ValueError(
            f"{name} is called with a mask, under which its statistics are of other "
            "positions than those measured here; use points.refit_pooled"
        )


def check(name: str, evaluates: bool, *, again: bool) -> None:
    """Raise ValueError if a layer is in training mode or has already run."""
    if not evaluates:
        raise ValueError(
            f"batch norm {name!r} is in training mode; apply the model in evaluation "
            "mode, in which every layer normalises by batch_stats"
        )
    if again:
        raise ValueError(
            f"batch norm {name!r} is called twice, so its input has no single mean; "
            "use points.refit_pooled"
        )


def nested(found: dict[leaf_names.Keys, dict[str, jax.Array]]) -> dict[str, Any]:
    """Convert moments by path to nested dictionaries."""
    tree: dict[str, Any] = {}
    for path, moments in found.items():
        level = tree
        for name in path[:-1]:
            level = level.setdefault(name, {})
        level[path[-1]] = moments
    return tree
