"""A pytree as orbax takes it: nested dictionaries of arrays, by the leaves' paths."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from kd_heuristics.checkpoints import leaf as one

PyTree = Any


def named(tree: PyTree) -> dict[str, Any]:
    """`{"params/fc/kernel": leaf, ...}`; raises ValueError for two of one name.

    A leaf may not have the name of a dictionary either: only one of them fits. Orbax
    joins the parts of a name by dots, so names must differ with dots for slashes too.
    """
    found, leaves, folders = {}, {}, {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name = jax.tree_util.keystr(path, simple=True, separator="/") or "value"
        dotted = name.replace("/", ".")
        above = [name[:end] for end, letter in enumerate(name) if letter == "/"]
        others = [found.get(other) for other in above]
        for other in (leaves.get(dotted), *others, folders.get(name)):
            if other is not None:
                both = " and ".join(map(jax.tree_util.keystr, (other[0], path)))
                raise ValueError(
                    f"a checkpoint cannot hold both {both}, the second as {name!r}; "
                    "rename one"
                )
        found[name] = leaves[dotted] = path, leaf
        folders |= dict.fromkeys(above, (path, leaf))
    return {name: leaf for name, (_, leaf) in found.items()}


def nested(leaves: Mapping[str, Any]) -> PyTree:
    """Leaves by name as nested dictionaries, which orbax takes as they are."""
    return traverse_util.unflatten_dict(dict(leaves), sep="/")


def written(leaves: Mapping[str, Any]) -> PyTree:
    """What orbax writes: nested dictionaries of the arrays that have elements.

    It takes no others, nor a tree without arrays.
    """
    kept = {name: one.written(leaf) for name, leaf in _with_elements(leaves).items()}
    return nested(kept or {"nothing": np.zeros((), np.int8)})


def wanted(like: Mapping[str, Any], there: Mapping[str, str]) -> PyTree:
    """How orbax is to read what `written` made, for leaves like these.

    Args:
      like: leaves by name.
      there: the description of each, as it was saved.
    """
    kept = {
        name: one.wanted(leaf, there[name])
        for name, leaf in _with_elements(like).items()
    }
    return nested(kept or {"nothing": np.zeros((), np.int8)})


def back(like: PyTree, there: Mapping[str, str], read: PyTree) -> PyTree:
    """The arrays that orbax read, in the structure and the places of `like`."""
    arrays: dict[str, Any] = traverse_util.flatten_dict(read, sep="/")
    leaves = [
        one.back(name, leaf, there[name], arrays.get(name))
        for name, leaf in named(like).items()
    ]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def _with_elements(leaves):
    return {name: leaf for name, leaf in leaves.items() if not one.is_empty(leaf)}
