"""The outputs of an Equinox module's submodules."""

import sys
from typing import Any

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np

from kd_heuristics.pytrees import leaf_names

PyTree = Any

# The current trace: a value of another trace would leak out of its transformation.
_home = (
    jax.extend.core if hasattr(jax.extend.core, "get_opaque_trace_state") else jax.core
)
_trace = _home.get_opaque_trace_state


def is_module(model: Any) -> bool:
    """Whether it is an Equinox module, and not a wrapper around a function."""
    if "equinox" not in sys.modules:
        return False
    eqx = sys.modules["equinox"]
    wraps = isinstance(model, eqx.Partial) or hasattr(model, "__wrapped__")
    return isinstance(model, eqx.Module) and callable(model) and not wraps


class Submodules:
    """A function `((arrays, state), images) -> {"layers/0": [examples, ...]}`.

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


def recorded(model: Any, *args: Any, **options: Any) -> tuple[dict[str, Any], Any]:
    """Calls a module and returns its submodules' outputs by name, and its own output.

    Args:
      model: the module.
      *args: of its call, for one example.
      **options: of its call.
    """
    eqx = sys.modules["equinox"]
    found: dict[str, Any] = {}
    trace = _trace()

    def record(name, kind, output):
        if trace == _trace():
            found.update(_named(eqx, found, name, kind, output))

    copy: Any = _recording(eqx, model, record, ())
    output = copy(*args, **options)
    record("output", type(model), output)
    return found, output


def _recording(eqx, node, record, path):
    """A copy of the tree in which each inner module records its output."""

    def inside(where, child):
        return _recording(eqx, child, record, (*path, *where))

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
        output = kind.__call__(self, *args, **options)
        record(name, kind, output)
        return output

    copy = object.__new__(type(kind)(kind.__name__, (kind,), {"__call__": call}))
    for key, value in vars(node).items():
        object.__setattr__(copy, key, value)
    return copy


def _named(eqx, found, name, kind, output):
    """Arrays of one call by name, channels last; a second call gives "name#1"."""
    parts = output if isinstance(output, tuple) else (output,)
    kept = [part for part in parts if not isinstance(part, eqx.nn.State)]
    out: dict[str, Any] = {}
    for leaf in filter(_is_array, jax.tree.leaves(kept)):
        count = sum(key.split("#")[0] == name for key in (*found, *out))
        # One example is [c, h, w], or [c, length] for these and [tokens, units] else.
        line = issubclass(kind, (eqx.nn.Conv, eqx.nn.ConvTranspose, eqx.nn.Pool))
        first = leaf.ndim == 3 or (leaf.ndim == 2 and line)
        value = jnp.moveaxis(leaf, 0, -1) if first else leaf
        out[f"{name}#{count}" if count else name] = value
    return out


def _is_array(leaf):
    return isinstance(leaf, jax.Array | np.ndarray)
