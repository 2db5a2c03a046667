"""Watches the batch-norm layers of an NNX model."""

import contextlib
import sys
from collections.abc import Callable, Iterator

import jax.numpy as jnp

from kd_heuristics.points import linen


@contextlib.contextmanager
def watching(record: Callable[..., None], moments: Callable) -> Iterator[None]:
    """Record the moments of each `nnx.BatchNorm`'s input while the model is traced.

    NNX has no interceptors, so the class gets another `__call__` in the context.

    Args:
      record: `(mean, var, moments, evaluates)`, with the layer's own arrays.
      moments: `(x, axis, axis_name) -> {"mean": ..., "var": ...}`.
    """
    nnx = sys.modules.get("flax.nnx")  # if not imported, there is no such model
    if nnx is None:
        yield
        return
    original = nnx.BatchNorm.__call__

    def call(self, x, use_running_average=None, **options):
        evaluates = use_running_average
        if evaluates is None:
            evaluates = self.use_running_average
        linen.refuse_mask("an nnx.BatchNorm", options.get("mask"))
        found = moments(jnp.asarray(x), self.axis, self.axis_name)
        record(_value(self.mean), _value(self.var), found, bool(evaluates))
        return original(self, x, use_running_average, **options)

    nnx.BatchNorm.__call__ = call
    try:
        yield
    finally:
        nnx.BatchNorm.__call__ = original


def _value(variable):
    """Returns the array of a variable itself, no copy."""
    get = getattr(variable, "get_raw_value", None)  # of newer versions
    return variable.raw_value if get is None else get()
