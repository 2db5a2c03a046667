"""A pytree as orbax takes it: nested dictionaries of arrays, by the leaves' paths."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from kd_heuristics import hosts

PyTree = Any

_KEY_IMPLS = ("threefry2x32", "rbg", "unsafe_rbg")


def _named(tree: PyTree) -> dict[str, Any]:
    """`{"params/fc/kernel": leaf, ...}`; raises ValueError for two of one name.

    A leaf may not have the name of a dictionary either: only one of them fits.
    """
    found, leaves, folders = {}, {}, {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name = jax.tree_util.keystr(path, simple=True, separator="/") or "value"
        above = [name[:end] for end, letter in enumerate(name) if letter == "/"]
        others = [leaves.get(other) for other in (name, *above)]
        for other in (*others, folders.get(name)):
            if other is not None:
                both = " and ".join(map(jax.tree_util.keystr, (other, path)))
                raise ValueError(
                    f"a checkpoint cannot hold both {both}, the second as {name!r}; "
                    "rename one"
                )
        found[name], leaves[name] = leaf, path
        folders |= dict.fromkeys(above, path)
    return found


def nested(tree: PyTree, convert: Callable | None = None) -> PyTree:
    """The leaves as arrays in nested dictionaries, which orbax takes as they are.

    It takes no arrays without elements, which are left out, nor a tree without arrays.
    """
    convert = convert or _data
    kept = {
        tuple(name.split("/")): convert(leaf)
        for name, leaf in _named(tree).items()
        if not _is_empty(leaf)
    }
    return traverse_util.unflatten_dict(kept or {("nothing",): convert(np.int8(0))})


def like_of(like: PyTree, nested: PyTree) -> PyTree:
    """The arrays in the structure of `like`; key data becomes typed keys again."""
    read: dict[str, Any] = traverse_util.flatten_dict(nested, sep="/")
    leaves = []
    for name, leaf in _named(like).items():
        array = _empty(leaf) if _is_empty(leaf) else read[name]
        if _is_key(leaf):
            array = jax.random.wrap_key_data(array, impl=_key_impl(leaf))
        leaves.append(array)
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def _is_empty(leaf):
    return 0 in np.shape(leaf)


def _empty(leaf):
    """The array without elements that a leaf stands for."""
    data = abstract(leaf)
    dtype = jax.dtypes.canonicalize_dtype(data.dtype)
    return jnp.zeros(data.shape, dtype, device=data.sharding)


def leaves(tree: PyTree) -> dict[str, str]:
    """`{"params/fc/kernel": "float32[2, 3]", "key": "key<fry>[]", ...}`."""
    return {
        name: f"{_dtype(leaf)}{list(np.shape(leaf))}"
        for name, leaf in _named(tree).items()
    }


def _is_key(leaf):
    return jnp.issubdtype(_dtype(leaf), jax.dtypes.prng_key)


def _dtype(leaf):
    return getattr(leaf, "dtype", None) or jnp.asarray(leaf).dtype


def data_dtype(leaf: Any) -> Any:
    """Of what is written of a leaf."""
    return (
        jax.eval_shape(jax.random.key_data, leaf).dtype
        if _is_key(leaf)
        else _dtype(leaf)
    )


def _key_impl(leaf):
    """The name of a key's generator, of an array or of a shape alike."""
    found = []
    jax.eval_shape(lambda key: found.append(str(jax.random.key_impl(key))), leaf)
    return found[0]


def described(description: str) -> jax.ShapeDtypeStruct:
    """The inverse of a description in `leaves`."""
    dtype, shape = description.removesuffix("]").split("[")
    keys = {str(jax.random.key(0, impl=name).dtype): name for name in _KEY_IMPLS}
    if dtype in keys:
        dtype = jax.random.key(0, impl=keys[dtype]).dtype
    sizes = tuple(int(size) for size in shape.split(",") if size.strip())
    return jax.ShapeDtypeStruct(sizes, dtype, sharding=_first_device())


def _data(leaf):
    leaf = jax.random.key_data(leaf) if _is_key(leaf) else jnp.asarray(leaf)
    # Of several processes: what each has for itself is written by the first.
    alone = hosts.count() > 1 and leaf.is_fully_addressable
    return np.asarray(leaf) if alone else leaf


def abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    """How orbax is to read a leaf."""
    sharding = getattr(leaf, "sharding", None) or _first_device()
    if _is_key(leaf):
        leaf = jax.eval_shape(jax.random.key_data, leaf)
        sharding = _first_device()
    return jax.ShapeDtypeStruct(np.shape(leaf), _dtype(leaf), sharding=sharding)


def _first_device():
    return jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
