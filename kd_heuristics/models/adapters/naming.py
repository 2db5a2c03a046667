"""Converts pytrees to nested dictionaries named by the path of each leaf, and back."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
from flax import traverse_util

from kd_heuristics.pytrees import leaf_names
from kd_heuristics.pytrees.leaf_names import Keys

PyTree = Any


@dataclasses.dataclass(frozen=True)
class Naming:
    """Names the leaves of trees of one structure.

    Attributes:
      what: description of the tree for messages, such as "parameters of Net".
      names: one name per leaf, in the order of `jax.tree.leaves`.
      structure: the tree's structure.
    """

    what: str
    names: tuple[Keys, ...]
    structure: Any

    @classmethod
    def of(
        cls,
        what: str,
        tree: PyTree,
        rename: Callable[[Keys], Keys] = lambda keys: keys,
    ) -> "Naming":
        """Makes the naming of a tree; `rename` maps the keys of a leaf to others.

        >>> naming = Naming.of("the example", {"fc": [1.0, 2.0]})
        >>> naming.to_dict({"fc": [3.0, 4.0]})
        {'fc': {'0': 3.0, '1': 4.0}}
        """
        names = tuple(map(rename, leaf_names.keys(tree)))
        return cls(what, names, jax.tree.structure(tree))

    def to_dict(self, tree: PyTree) -> dict[str, Any]:
        """Converts a tree to nested dictionaries."""
        leaves = zip(self.names, jax.tree.leaves(tree), strict=True)
        return traverse_util.unflatten_dict(dict(leaves))

    def to_tree(self, nested: dict[str, Any]) -> PyTree:
        """Converts nested dictionaries to a tree; the inverse of `to_dict`.

        Raises:
          ValueError: the dictionaries belong to another model; the message names a
            leaf.
        """
        flat: dict[Any, Any] = traverse_util.flatten_dict(nested)
        wrong = sorted({*flat} ^ {*self.names})
        if wrong:
            problem = "is missing" if wrong[0] in self.names else "is unknown"
            raise ValueError(
                f"these variables are not the {self.what}: {'/'.join(wrong[0])!r} "
                f"{problem}; give what this network's init returned, or a tree like it"
            )
        return jax.tree.unflatten(self.structure, [flat[name] for name in self.names])
