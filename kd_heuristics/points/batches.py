"""Batches as one tree of arrays [num_batches, batch, ...]."""

from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

from kd_heuristics.pytrees import leaf_names

PyTree = Any


def stacked(batches: PyTree) -> PyTree:
    """Returns the batches as a tree of arrays; stacks them if they come one by one.

    Args:
      batches: a tree of arrays [num_batches, batch, ...]; or a list, a generator or
        another iterable of trees of arrays [batch, ...], all of one size.

    Raises:
      ValueError: there are no batches, they differ in structure or shape, or arrays
        lack the axis of batches or differ in its length.

    >>> stacked([{"x": np.ones(2)}, {"x": np.zeros(2)}])["x"].tolist()
    [[1.0, 1.0], [0.0, 0.0]]
    """
    if _one_by_one(batches):
        return _stack(list(batches))
    sizes = {
        path: np.shape(leaf)[:1] for path, leaf in leaf_names.flat(batches).items()
    }
    if not sizes:
        raise ValueError("batches holds no array")
    if len({*sizes.values()}) > 1 or () in sizes.values():
        raise ValueError(
            "batches must be arrays [num_batches, batch, ...] with equal numbers of "
            f"batches, or a list of batches; got leading axes {sizes}"
        )
    return batches


def _one_by_one(batches) -> bool:
    """Whether an object yields batches: a list of trees, or another iterable."""
    if isinstance(batches, list):
        return any(not jax.tree_util.all_leaves([batch]) for batch in batches)
    is_tree = not jax.tree_util.all_leaves([batches])
    return (
        not is_tree and isinstance(batches, Iterable) and not hasattr(batches, "shape")
    )


def _stack(batches: list) -> PyTree:
    """Stack a list of batches; raise ValueError if they differ."""
    if not batches:
        raise ValueError("there is no batch: the iterable is empty")
    shapes = [
        {name: np.shape(leaf) for name, leaf in leaf_names.flat(batch).items()}
        for batch in batches
    ]
    for number, shape in enumerate(shapes):
        if shape != shapes[0]:
            raise ValueError(
                f"batches 0 and {number} differ: {shapes[0]} and {shape}; all must be "
                'of one size: pad the last and mark its examples in a "mask", as '
                "data.eval_batches does"
            )
    return jax.tree.map(lambda *leaves: np.stack([*map(np.asarray, leaves)]), *batches)
