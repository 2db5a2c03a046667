"""Selection of leaves by a predicate, and freezing without an optimiser."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from kd_heuristics.pytrees import leaf_names

PyTree = Any
Predicate = Callable[[str], bool]


def selected(frozen: Predicate, tree: PyTree) -> PyTree:
    """Returns a tree of Python bools: whether the predicate names each leaf.

    >>> selected(lambda path: path.startswith("fc"), {"conv": 1.0, "fc": {"bias": 2.0}})
    {'conv': False, 'fc': {'bias': True}}
    """
    return leaf_names.tree_map(lambda name, _: bool(frozen(name)), tree)


def check_selects_some(frozen: Predicate, params: PyTree) -> None:
    """Raises ValueError, listing all paths, if no leaf is named or every leaf is."""
    names = leaf_names.names(params)
    flags = {bool(frozen(name)) for name in names}
    if len(flags) == 1:
        paths = ", ".join(map(repr, names))
        words = "every leaf" if flags == {True} else "no leaf"
        raise ValueError(
            f"frozen must be true for some paths and not for others, but names {words} "
            f"of {paths}; without frozen layers use the inner optimiser itself, and "
            "where each group has its own optimiser put freeze around multi_transform"
        )


def stop_frozen(params: PyTree, frozen: Predicate) -> PyTree:
    """Returns the same parameters, with no gradient through the frozen leaves.

    Call it inside the loss: the compiler then omits the gradients of these leaves and
    everything that only they need. It freezes for good, not until a step. An optimiser
    still applies decay and old momentum to a leaf without gradient; `freeze` or
    `optax.masked` prevents that.

    Args:
      params: any tree.
      frozen: `path -> bool`, for paths such as "fc/kernel".

    Raises: ValueError, listing all paths, if `frozen` names no leaf or every leaf.

    >>> def loss(params):
    ...     params = stop_frozen(params, lambda path: path == "fc")
    ...     return params["conv"] * params["fc"]
    >>> gradient = jax.grad(loss)({"conv": 2.0, "fc": 3.0})
    >>> float(gradient["conv"]), float(gradient["fc"])
    (3.0, 0.0)
    """
    check_selects_some(frozen, params)
    return jax.tree.map(
        lambda leaf, stop: jax.lax.stop_gradient(leaf) if stop else leaf,
        params,
        selected(frozen, params),
    )


def keep_batch_stats(
    old: PyTree, new: PyTree, frozen: Predicate, now: bool | jax.Array = True
) -> PyTree:
    """Returns running statistics after a step in which some layers were frozen.

    A frozen layer keeps its old statistics, others take the new ones. Paths are those
    of the statistics' leaves, "bn/mean"; a predicate on the layer's part of the path
    works for parameters and statistics alike. It may name none of them.

    Args:
      old: statistics before the step.
      new: statistics after it, of the same structure.
      frozen: `path -> bool`.
      now: whether the layers are frozen at this step, see `is_frozen`; may be traced.

    >>> old, new = {"bn1": {"mean": 0.0}, "fc": {"mean": 0.0}}, {
    ...     "bn1": {"mean": 1.0}, "fc": {"mean": 1.0}}
    >>> kept = keep_batch_stats(old, new, lambda path: path.startswith("fc"))
    >>> float(kept["bn1"]["mean"]), float(kept["fc"]["mean"])
    (1.0, 0.0)
    """
    return jax.tree.map(
        lambda before, after, keep: jnp.where(now, before, after) if keep else after,
        old,
        new,
        selected(frozen, new),
    )
