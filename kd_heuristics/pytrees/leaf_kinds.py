"""Role of a leaf in its layer: a kernel, a vector such as a bias, or something else.

The leaf's name tells its role. In Equinox, where a kernel and a norm's scale have the
same name, the layer that holds it does:

* Flax, Linen and NNX, and plain trees: kernels are called "kernel", vectors "bias",
  "scale", "mean" or "var".
* Equinox: kernels are the "weight" of `Linear`, `Conv` and `ConvTranspose`, the
  "weight_ih" and "weight_hh" of cells, and a "weight" with two axes or more in a custom
  module; vectors are all leaves of a norm, and leaves whose name starts with "bias".
"""

import sys
from typing import Any, NamedTuple

import jax
import numpy as np

from kd_heuristics.pytrees import leaf_names

PyTree = Any

KERNEL, VECTOR, OTHER = "kernel", "vector", "other"
_FLAX = {"kernel": KERNEL} | dict.fromkeys(("bias", "scale", "mean", "var"), VECTOR)
_CELLS = ("weight_ih", "weight_hh")
_NORMS = ("BatchNorm", "GroupNorm", "LayerNorm", "RMSNorm")


class LeafKind(NamedTuple):
    """Role of a leaf in its layer.

    Attributes:
      keys: path of the leaf, ("fc", "kernel").
      shape: shape of the leaf.
      kind: `KERNEL`, `VECTOR` or `OTHER`.
      outputs_first: whether outputs lie along the first axis, [out, in, ...], as in
        Equinox; else along the last ones.
      rank: number of axes without those of a stack of layers; `None` if the layer does
        not tell.
    """

    keys: leaf_names.Keys
    shape: tuple[int, ...]
    kind: str
    outputs_first: bool = False
    rank: int | None = None


def leaf_kinds(tree: PyTree) -> list[LeafKind]:
    """Returns the role of each leaf, in the order of `jax.tree.leaves`.

    >>> [leaf.kind for leaf in leaf_kinds({"fc": {"bias": 0.0, "kernel": 1.0}})]
    ['vector', 'kernel']
    """
    rows = zip(leaf_names.keys(tree), jax.tree.leaves(tree), _fields(tree), strict=True)
    return [_leaf_kind(keys, np.shape(leaf), *field) for keys, leaf, field in rows]


def _leaf_kind(keys, shape, module, field) -> LeafKind:
    """Returns the role of a leaf, by its module or its name."""
    if module is None:
        kind = _FLAX.get(keys[-1].split("/")[-1], OTHER) if keys else OTHER
        return LeafKind(keys, shape, kind)
    layers = {kind.__name__ for kind in type(module).__mro__ if _is_equinox(kind)}
    if layers.intersection(_NORMS) or field.startswith("bias"):
        return LeafKind(keys, shape, VECTOR)
    if "Embedding" in layers:
        return LeafKind(keys, shape, OTHER, rank=2)
    if field == "weight" and layers.intersection(("Linear", "Conv", "ConvTranspose")):
        rank = 2 + getattr(module, "num_spatial_dims", 0)
        return LeafKind(keys, shape, KERNEL, True, rank)
    if field in _CELLS and layers.intersection(("GRUCell", "LSTMCell")):
        return LeafKind(keys, shape, KERNEL, True, 2)
    if field in _FLAX:
        return LeafKind(keys, shape, _FLAX[field])
    own = field == "weight" and len(shape) > 1
    return LeafKind(keys, shape, KERNEL if own else OTHER, True)


def _fields(tree) -> list[tuple[Any, str]]:
    """Returns the innermost Equinox module of each leaf, and its field there."""
    equinox = sys.modules.get("equinox")  # if not imported, the tree has no modules
    if equinox is None:
        return [(None, "")] * len(jax.tree.leaves(tree))
    found = []
    for path, node in jax.tree_util.tree_leaves_with_path(
        tree, is_leaf=lambda x: isinstance(x, equinox.Module) and x is not tree
    ):
        if isinstance(node, equinox.Module) and node is not tree:
            found += _fields(node)
        else:
            inside = isinstance(tree, equinox.Module)
            field = leaf_names.keys_of(path)[0] if inside else ""
            found.append((tree if inside else None, field))
    return found


def _is_equinox(kind) -> bool:
    return kind.__module__.startswith("equinox.nn")
