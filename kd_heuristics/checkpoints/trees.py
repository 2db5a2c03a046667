"""Pytrees in orbax's form: nested dictionaries of arrays, by the leaves' paths."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from kd_heuristics.checkpoints import leaf as one

PyTree = Any


def named(tree: PyTree) -> dict[str, Any]:
    """Returns the leaves by name, `{"params/fc/kernel": leaf, ...}`.

    Orbax joins the parts of a name by dots, so names must also differ with dots in
    place of slashes.

    Raises: ValueError if two leaves, or a leaf and a dictionary, have the same name.
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
    """Convert leaves by name to nested dictionaries, which orbax accepts."""
    return traverse_util.unflatten_dict(dict(leaves), sep="/")


def written(leaves: Mapping[str, Any]) -> PyTree:
    """Returns the nested dictionaries of arrays that orbax writes.

    Orbax rejects arrays without elements, and a tree without arrays. The former are
    left out; the latter gets a placeholder.
    """
    kept = {name: one.written(leaf) for name, leaf in _with_elements(leaves).items()}
    return nested(kept or {"nothing": np.zeros((), np.int8)})


def wanted(like: Mapping[str, Any], there: Mapping[str, str]) -> PyTree:
    """Returns the templates by which orbax reads what `written` made.

    Args:
      like: leaves by name, as they are to be restored.
      there: description of each saved leaf.
    """
    kept = {
        name: one.wanted(leaf, there[name])
        for name, leaf in _with_elements(like).items()
    }
    return nested(kept or {"nothing": np.zeros((), np.int8)})


def back(like: PyTree, there: Mapping[str, str], read: PyTree) -> PyTree:
    """Returns the arrays that orbax read, in the structure and placement of `like`."""
    arrays: dict[str, Any] = traverse_util.flatten_dict(read, sep="/")
    leaves = [
        one.back(name, leaf, there[name], arrays.get(name))
        for name, leaf in named(like).items()
    ]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def _with_elements(leaves):
    """Returns the leaves that have elements."""
    return {name: leaf for name, leaf in leaves.items() if not one.is_empty(leaf)}
