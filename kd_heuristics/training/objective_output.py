"""Checks of what an objective returns, made while a step is traced."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from kd_heuristics.pytrees import leaf_names
from kd_heuristics.runtime.leaves import described
from kd_heuristics.runtime.precision import widened
from kd_heuristics.training.metrics import SKIPPED, STEPS, VALUE, check_names

PyTree = Any


def checked(found: Any, start: PyTree) -> tuple[jax.Array, tuple[PyTree, dict]]:
    """Check an objective's return value and convert it to arrays.

    Args:
      found: what the objective returned.
      start: the statistics it was given.

    Returns: `(loss, (batch_stats, metrics))`, the statistics in the types of `start`
      and the metrics as arrays.

    Raises:
      TypeError: `found` has another structure, or a metric is not a number.
      ValueError: the loss is not a scalar float, a metric is not a scalar or has a
        reserved name, or statistics differ from `start` in name, shape or kind.
    """
    match found:
        case (value, (batch_stats, metrics)) if isinstance(metrics, Mapping):
            pass
        case _:
            raise TypeError(
                "the objective must return (loss, (batch_stats, metrics)) with metrics "
                f"a dictionary, got {_described(found)}; return the batch_stats it was "
                "given if it has none of its own"
            )
    check_names(metrics, (VALUE, STEPS, SKIPPED))
    value = _scalar("the objective's loss", value)
    if not jnp.issubdtype(value.dtype, jnp.floating):
        raise ValueError(
            f"the objective's loss must be a float, got {value.dtype}: counts have no "
            "gradient; return a differentiable loss"
        )
    scalars = {
        name: _scalar(f"metric {name!r}", leaf) for name, leaf in metrics.items()
    }
    return value, (_as_started(start, batch_stats), scalars)


def to_be_summed(value: jax.Array) -> jax.Array:
    """Cast a number to a type whose sums neither wrap nor stop growing.

    Floats of at least 32 bits keep their type. bfloat16 cannot count beyond 256, int8
    wraps at 128, and a sum of bools is an "or".
    """
    if jnp.issubdtype(value.dtype, jnp.floating):
        return widened(value)
    return value.astype(float)  # float64 under x64, else float32


def _scalar(words, value):
    """Returns a value as a real scalar array; `words` names it in errors."""
    try:
        array = jnp.asarray(value)
    except (TypeError, ValueError):
        raise TypeError(
            f"{words} must be a number, got {_described(value)}; give each number a "
            "name of its own"
        ) from None
    if array.shape:
        raise ValueError(
            f"{words} must be a scalar, got shape {list(array.shape)}; reduce it, for "
            "instance with .mean()"
        )
    real = (jnp.floating, jnp.integer, jnp.bool_)
    if not any(jnp.issubdtype(array.dtype, kind) for kind in real):
        raise ValueError(f"{words} must be a real number, got {array.dtype}")
    return array


def _as_started(start, batch_stats):
    """Cast the statistics to their initial floating types; check their structure."""
    if jax.tree.structure(start) != jax.tree.structure(batch_stats):
        raise ValueError(
            f"the objective was given the statistics {leaf_names.names(start)} but "
            f"returns {leaf_names.names(batch_stats)}: their structure must not "
            "change; start with all of them"
        )
    leaves = []
    names = leaf_names.names(start)
    both = zip(jax.tree.leaves(start), jax.tree.leaves(batch_stats), strict=True)
    for name, (was, now) in zip(names, both, strict=True):
        was, now = jnp.asarray(was), jnp.asarray(now)
        floats = all(jnp.issubdtype(x.dtype, jnp.floating) for x in (was, now))
        if was.shape != now.shape or not (floats or was.dtype == now.dtype):
            raise ValueError(
                f"the statistic {name!r} starts as {_described(was)}, but the "
                f"objective returns {_described(now)}; start it as the latter"
            )
        leaves.append(now.astype(was.dtype) if floats else now)
    return jax.tree.unflatten(jax.tree.structure(start), leaves)


def _described(value):
    """Returns the structure, types and shapes of a value in words."""
    if isinstance(value, tuple | list):
        return f"({', '.join(map(_described, value))})"
    if hasattr(value, "dtype"):
        return described(value)
    return type(value).__name__
