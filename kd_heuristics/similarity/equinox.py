"""The outputs of an Equinox module's submodules."""

import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kd_heuristics.pytrees import leaf_names
from kd_heuristics.similarity.marks import mark, marked
from kd_heuristics.similarity.numbering import STACK, in_order

PyTree = Any
Timed = dict[tuple[tuple[int, ...], str], jax.Array]  # by time and name


def is_module(model: Any) -> bool:
    """Whether it is an Equinox module, and not a wrapper around a function."""
    if "equinox" not in sys.modules:
        return False
    eqx = sys.modules["equinox"]
    wraps = isinstance(model, eqx.Partial) or hasattr(model, "__wrapped__")
    return isinstance(model, eqx.Module) and callable(model) and not wraps


class Submodules:
    """A function `((arrays, state), images) -> {(time, name): [examples, ...]}`.

    Modules that differ only in arrays give equal functions, which compile once.
    """

    def __init__(self, model: Any, options: tuple[tuple[str, Any], ...]):
        """Wrap the module, to be called with these options."""
        self._static = jax.tree.map(lambda x: None if _is_array(x) else x, model)
        self._options = options

    def arrays(self, model: Any) -> PyTree:
        """The arrays, in which models of one structure differ."""
        return jax.tree.map(lambda x: x if _is_array(x) else None, model)

    def __call__(self, variables, images):
        eqx = sys.modules["equinox"]
        arrays, state = variables
        model = eqx.combine(arrays, self._static)
        extra = () if state is None else (state,)

        def one(image):
            return recorded(model, image, *extra, **dict(self._options))[0]

        return jax.vmap(one)(images)

    def __eq__(self, other):
        return isinstance(other, Submodules) and self._key() == other._key()

    def __hash__(self):
        return hash(self._key())

    def _key(self):
        leaves, structure = jax.tree.flatten(self._static)
        return tuple(leaves), structure, self._options


def recorded(model: Any, *args: Any, **options: Any) -> tuple[Timed, Any]:
    """Calls a module and returns its submodules' outputs, and its own output.

    Under vmap, scan, jit and checkpoint of the module's own, too: axes of scan come
    first, then those of vmap.

    Args:
      model: the module.
      *args: of its call, for one example.
      **options: of its call.
    """
    eqx = sys.modules["equinox"]
    copy: Any = _recording(eqx, model, ())
    rest = []

    def run():
        output = _marked(eqx, "output", type(model), copy(*args, **options))
        arrays, others = eqx.partition(output, _is_array)
        rest.append((jax.tree.structure(arrays), others))
        return arrays

    leaves, found = marked(run)
    structure, others = rest[0]
    output = eqx.combine(jax.tree.unflatten(structure, leaves), others)
    names: Timed = {}
    for name, time, value in found:
        count = sum(key.partition("#")[0] == name for _, key in names)
        names[time, f"{name}#{count}" if count else name] = value
    return names, output


def numbered_calls(
    run: Callable[[PyTree, PyTree], Timed],
    variables: PyTree,
    images: PyTree,
    include: Callable[[str], bool] | None = None,
) -> dict[str, jax.Array]:
    """As `numbering.numbered`, of a function that gives what `recorded` does.

    Each value has a first axis of examples.
    """
    examples = len(jax.tree.leaves(images)[0])
    timed = {}
    for (time, name), value in run(variables, images).items():
        scans = time.count(STACK)
        timed[name] = (jnp.moveaxis(value, 0, scans), scans, (time,))
    return in_order(timed, examples, include)


def _recording(eqx, node, path):
    """A copy of the tree in which each inner module marks its output."""

    def inside(where, child):
        return _recording(eqx, child, (*path, *where))

    def is_inner(child):
        return child is not node and isinstance(child, eqx.Module)

    leaves, structure = jax.tree_util.tree_flatten_with_path(node, is_leaf=is_inner)
    new = [
        inside(leaf_names.keys_of(p), leaf) if is_inner(leaf) else leaf
        for p, leaf in leaves
    ]
    node = jax.tree.unflatten(structure, new)
    if not path or not callable(node):
        return node
    kind, name = type(node), "/".join(path)

    def call(self, *args, **options):
        return _marked(eqx, name, kind, kind.__call__(self, *args, **options))

    copy = object.__new__(type(kind)(kind.__name__, (kind,), {"__call__": call}))
    for key, value in vars(node).items():
        object.__setattr__(copy, key, value)
    return copy


def _marked(eqx, name, kind, output):
    """The output of one call, with marks on its arrays that put channels last."""

    def of_leaf(leaf):
        if not _is_array(leaf):
            return leaf
        # One example is [c, h, w], or [c, length] for these and [tokens, units] else.
        line = issubclass(kind, (eqx.nn.Conv, eqx.nn.ConvTranspose, eqx.nn.Pool))
        first = leaf.ndim == 3 or (leaf.ndim == 2 and line)
        return mark(name, leaf, channels=0 if first else -1)

    return jax.tree.map(
        of_leaf, output, is_leaf=lambda node: isinstance(node, eqx.nn.State)
    )


def _is_array(leaf):
    return isinstance(leaf, jax.Array | np.ndarray)
