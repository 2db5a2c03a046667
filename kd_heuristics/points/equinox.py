"""Statistics of `equinox.nn.BatchNorm`, which have their own names and counters.

Its state holds mean and variance as a pair without names. In mode "batch" the layer
divides them by 1 - momentum^counter, unless the counter is 0. In mode "ema" it
normalises by the running statistics also in training, except that the first batch is
normalised by its own.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from kd_heuristics.pytrees import leaf_names

PyTree = Any

_PAIRS = ("batch_state_index", "ema_state_index")
_NAMES = {"0": "mean", "1": "var"}


def named(path: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the path of a leaf, with the leaves of a pair named "mean" and "var".

    >>> named(("bn", "ema_state_index", "1"))
    ('bn', 'ema_state_index', 'var')
    """
    if path[-2:-1] and path[-2] in _PAIRS:
        return (*path[:-1], _NAMES.get(path[-1], path[-1]))
    return path


def restarted(batch_stats: PyTree) -> PyTree:
    """Reset the counters of Equinox's statistics.

    Statistics are then used unscaled, and do not affect a training-mode pass.

    >>> restarted({"batch_counter": jnp.int32(7), "mean": 1.5})["batch_counter"].item()
    0
    """

    def leaf_of(path, leaf):
        (last,) = leaf_names.keys_of(path[-1:])
        if last == "batch_counter":
            return jnp.zeros_like(leaf)
        return jnp.ones_like(leaf) if last == "ema_first_time_index" else leaf

    return jax.tree_util.tree_map_with_path(leaf_of, batch_stats)


@contextlib.contextmanager
def watching(record: Callable[..., None], moments: Callable) -> Iterator[None]:
    """Record the moments of each `eqx.nn.BatchNorm`'s input while the model is traced.

    Args:
      record: `(mean, var, moments, evaluates)`, with the arrays of the state.
      moments: `(x, axis, axis_name) -> {"mean": ..., "var": ...}`.
    """
    eqx = sys.modules.get("equinox")  # if not imported, there is no such model
    if eqx is None:
        yield
        return
    original = eqx.nn.BatchNorm.__call__

    def call(self, x, state, *, inference=None, **options):
        evaluates = self.inference if inference is None else inference
        ema = getattr(self, "mode", "ema") == "ema"
        index = self.ema_state_index if ema else self.batch_state_index
        found = moments(jnp.asarray(x), 0, self.axis_name)
        record(*state.get(index), found, bool(evaluates))
        return original(self, x, state, inference=inference, **options)

    eqx.nn.BatchNorm.__call__ = call
    try:
        yield
    finally:
        eqx.nn.BatchNorm.__call__ = original
