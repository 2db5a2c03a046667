"""Names of leaves, in the same form for every library: "fc/kernel".

Flax puts boxes around arrays: NNX a `Variable` (`VariableState` before 0.11), Linen an
`AxisMetadata` such as `Partitioned`. JAX's paths then end with ".value", unless Flax
has removed the box, as inside `nnx.Optimizer.update`. A path alone does not distinguish
a box from a field that the user called "value"; the tree does.
"""

import collections
from collections.abc import Callable, Iterable
from typing import Any

import jax

PyTree = Any
Keys = tuple[str, ...]

# By name, because trees without Flax need no import of it and its versions differ.
_BOXES = {"Variable", "VariableState", "AxisMetadata"}


def names(tree: PyTree) -> list[str]:
    """Returns the name of each leaf, in the order of `jax.tree.leaves`.

    A name is dictionary keys, attributes and indices joined by "/", or "" for a tree
    that is one leaf. Flax's boxes add nothing.

    >>> names({"fc": {"kernel": 1.0, "bias": [2.0, 3.0]}, "value": {"value": 4.0}})
    ['fc/bias/0', 'fc/bias/1', 'fc/kernel', 'value/value']
    >>> from flax import linen, nnx
    >>> names(nnx.state(nnx.Linear(2, 3, rngs=nnx.Rngs(0))))
    ['bias', 'kernel']
    >>> names({"fc": linen.Partitioned(1.0, names=("data",))})
    ['fc']
    """
    return ["/".join(path) for path in keys(tree)]


def keys(tree: PyTree) -> list[Keys]:
    """Returns names as in `names`, as tuples of keys.

    >>> keys({"layers": [{"kernel": 1.0}]})
    [('layers', '0', 'kernel')]
    """
    found = []
    for path, node in _flat(tree, is_box):
        inner = _inside(node) if is_box(node) else [()]
        found += [keys_of(path) + rest for rest in inner]
    return found


def keys_of(path: tuple) -> Keys:
    """Converts a path of `jax.tree_util` to strings; the node must lie in no box."""
    return tuple(jax.tree_util.keystr((key,), simple=True) for key in path)


def flat(tree: PyTree) -> dict[str, Any]:
    """Returns the leaves by name.

    Raises: ValueError if two leaves have the same name.

    >>> flat({"fc": {"kernel": 1.0, "bias": 2.0}})
    {'fc/bias': 2.0, 'fc/kernel': 1.0}
    """
    found = dict(zip(names(tree), jax.tree.leaves(tree), strict=True))
    if len(found) < jax.tree.structure(tree).num_leaves:
        name, _ = collections.Counter(names(tree)).most_common(1)[0]
        raise ValueError(
            f"two leaves are called {name!r}; rename one, or keep slashes out of keys"
        )
    return found


def tree_map(function: Callable[..., Any], tree: PyTree, *rest: PyTree) -> PyTree:
    """Maps `function(name, leaf, ...)` over trees with the structure of the first.

    >>> tree_map(lambda name, leaf: f"{name}={leaf}", {"fc": {"bias": 1, "kernel": 2}})
    {'fc': {'bias': 'fc/bias=1', 'kernel': 'fc/kernel=2'}}
    """
    leaves, structure = jax.tree.flatten(tree)
    others = [structure.flatten_up_to(other) for other in rest]
    rows = zip(names(tree), leaves, *others, strict=True)
    return structure.unflatten(function(*row) for row in rows)


def is_box(node: Any) -> bool:
    """Whether a node is one of Flax's boxes around an array."""
    return any(
        kind.__name__ in _BOXES and kind.__module__.startswith("flax.")
        for kind in type(node).__mro__
    )


def without_stored_boxes(names: Iterable[str]) -> list[str]:
    """Removes from names in a file the "value" that Flax's boxes leave there.

    A file stores a box as a dictionary {"value": array}, so a last "value" is removed
    if it has no siblings. A user's leaf of that name, alone in its dictionary, looks
    the same: if you know the names to expect, look for those first.

    >>> without_stored_boxes(["fc/kernel/value", "fc/bias/value", "norm/value/scale"])
    ['fc/kernel', 'fc/bias', 'norm/value/scale']
    >>> without_stored_boxes(["scale/value", "scale/offset", "value"])
    ['scale/value', 'scale/offset', 'value']
    """
    names = list(names)
    below = collections.Counter(
        name[:end] for name in names for end, at in enumerate(name) if at == "/"
    )

    def boxed(name):
        folder, _, last = name.rpartition("/")
        return last == "value" and below[folder] == 1

    return [name.removesuffix("/value") if boxed(name) else name for name in names]


def _inside(box) -> list[Keys]:
    """Returns the keys below a box, without the one that leads into it."""
    children = _flat(box, lambda node: node is not box)
    return [rest for _, child in children for rest in keys(child)]


def _flat(tree, is_leaf):
    return jax.tree_util.tree_leaves_with_path(tree, is_leaf=is_leaf)
