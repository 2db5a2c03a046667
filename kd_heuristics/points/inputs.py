"""Moments of the batch-norm inputs of an unchanged Linen, NNX or Equinox model."""

import contextlib
import threading
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from kd_heuristics.points import equinox, linen, nnx
from kd_heuristics.pytrees import leaf_names
from kd_heuristics.runtime.compiled import as_partial
from kd_heuristics.runtime.precision import widened

PyTree = Any

_PATCHED = threading.RLock()  # one trace at a time changes the layers' classes


def input_moments(apply: Callable[[PyTree, PyTree, PyTree], Any]) -> Callable:
    """Returns a function for moments of batch-norm inputs; see `points.refit_exact`.

    A batch-norm layer is, in Linen, any module whose own part of "batch_stats" is
    "mean" and "var", such as that of `models`; in NNX and Equinox, their `BatchNorm` or
    a subclass. Its channels are the last axis or those of its attribute `axis`, and in
    Equinox the first one.

    Args:
      apply: `(params, batch_stats, batch) -> anything`, the model in evaluation mode.
        Its layers are observed during tracing, so it must not be jitted already, and no
        layer may lie inside a scan, remat or jit, or be called twice. NNX and Equinox
        models must use the arrays of `batch_stats` themselves, as `nnx.merge` and
        `eqx.combine` do. Equinox models run under `jax.vmap` with the layers' axis
        name.

    Returns: `(params, batch_stats, batch) -> tree like batch_stats` with mean and
      biased variance over all axes but the layer's own, in float32 or wider. Of a Linen
      model, only the layers that ran.

    Raises (when called): ValueError if no batch-norm layer ran, one ran twice, or one
      was in training mode.
    """
    return jax.tree_util.Partial(_watched, as_partial(apply))


def _watched(apply, params, batch_stats, batch):
    """Run the model and record the moments of each batch-norm layer's input."""
    batch_stats = jax.tree.map(jnp.asarray, batch_stats)  # known by their identity
    by_path: dict[leaf_names.Keys, dict[str, jax.Array]] = {}
    by_leaf = _ByLeaf(batch_stats)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_PATCHED)
        stack.enter_context(linen.watching(batch_stats, by_path, moments))
        for library in (nnx, equinox):
            stack.enter_context(library.watching(by_leaf.record, moments))
        apply(params, batch_stats, batch)
    if by_leaf.found:
        return by_leaf.tree()
    if by_path:
        return linen.nested(by_path)
    raise ValueError(
        "no layer of batch_stats ran: the model has no batch norm of Linen, NNX or "
        "Equinox that uses these arrays, or apply was jitted before and is not traced "
        "again; give the function without jax.jit"
    )


class _ByLeaf:
    """Moments of layers that are known by the arrays of their statistics."""

    def __init__(self, batch_stats):
        """Remember the place of each array."""
        self._stats = batch_stats
        leaves = jax.tree.leaves(batch_stats)
        self._places = {id(leaf): place for place, leaf in enumerate(leaves)}
        self.found: dict[int, jax.Array] = {}

    def record(self, mean, var, found: dict[str, jax.Array], evaluates: bool) -> None:
        """Record the moments of the layer with these arrays; ignore unknown layers."""
        own = self._places.get(id(mean)), self._places.get(id(var))
        if own[0] is None or own[1] is None:
            return
        name = leaf_names.names(self._stats)[own[0]]
        linen.check(name, evaluates, again=own[0] in self.found)
        self.found |= {own[0]: found["mean"], own[1]: found["var"]}

    def tree(self):
        """Returns the statistics with the recorded moments in their places.

        Raises: ValueError if a floating-point array is not among them.
        """
        leaves, structure = jax.tree.flatten(self._stats)
        for place, leaf in enumerate(leaves):
            if place not in self.found and jnp.issubdtype(leaf.dtype, jnp.inexact):
                raise ValueError(
                    f"{leaf_names.names(self._stats)[place]!r} of batch_stats belongs "
                    "to no batch norm that ran outside of jit and scan; use "
                    "points.refit_pooled"
                )
        return structure.unflatten(
            self.found.get(place, leaf) for place, leaf in enumerate(leaves)
        )


def moments(
    x: jax.Array, axis: int | tuple[int, ...], axis_name: Any = None
) -> dict[str, jax.Array]:
    """Returns mean and biased variance over all axes but `axis`.

    Args:
      x: input of a layer.
      axis: axes of its channels.
      axis_name: mapped axes, over which to average too.
    """
    axes = axis if isinstance(axis, tuple) else (axis,)
    own = {axis % x.ndim for axis in axes}
    others = tuple(axis for axis in range(x.ndim) if axis not in own)
    x = widened(x)
    if axis_name is None:
        return {"mean": x.mean(others), "var": x.var(others)}
    mean = jax.lax.pmean(x.mean(others), axis_name)
    away = x - jnp.expand_dims(mean, others)
    return {
        "mean": mean,
        "var": jax.lax.pmean(jnp.square(away).mean(others), axis_name),
    }
