"""One leaf of a checkpoint: how it is written, and restored bit for bit.

JAX supports no 64-bit type unless `jax_enable_x64` is set, so only its own arrays pass
through it. NumPy arrays are written unchanged. Python numbers are written with 64 bits,
and described as "int[]", "float[]" or "complex[]".
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tensorstore

from kd_heuristics.checkpoints.manifest import CheckpointError
from kd_heuristics.runtime import hosts
from kd_heuristics.runtime.leaves import is_key

_KEY_IMPLS = ("threefry2x32", "rbg", "unsafe_rbg")
_NUMBERS = {  # description of a Python number: its type, and the kind of array
    "int[]": (int, jnp.integer),
    "float[]": (float, jnp.floating),
    "complex[]": (complex, jnp.complexfloating),
}


def describe(leaf: Any) -> str:
    """Returns type and shape of a leaf: "float32[2, 3]", "key<fry>[]", "int[]"."""
    if _is_number(leaf):
        return f"{_number_type(leaf).__name__}[]"
    return f"{_dtype(leaf)}{list(np.shape(leaf))}"


def of(description: str) -> Any:
    """Returns a leaf with this description: an abstract array, or a Python number."""
    if description in _NUMBERS:
        return _NUMBERS[description][0]()
    dtype, shape = description.removesuffix("]").split("[")
    keys = {str(jax.random.key(0, impl=name).dtype): name for name in _KEY_IMPLS}
    if dtype in keys:
        dtype = jax.random.key(0, impl=keys[dtype]).dtype
    sizes = tuple(int(size) for size in shape.split(",") if size.strip())
    return jax.ShapeDtypeStruct(sizes, dtype)


def check(name: str, leaf: Any) -> None:
    """Raise ValueError if the bits of a leaf cannot be written."""
    if _is_number(leaf):
        try:
            _written(leaf)
        except OverflowError:
            raise ValueError(
                f"{name} is {leaf}, which has more than 64 bits; a checkpoint holds "
                "Python integers of up to 64 bits; split it, or keep it in the notes"
            ) from None
        return
    is_array = _is_jax(leaf) or _is_numpy(leaf)
    if not is_array or isinstance(leaf, np.ma.MaskedArray):
        kind = type(leaf).__name__
    elif is_key(leaf) or _is_storable(_dtype(leaf)):
        return
    else:
        kind = f"array of {_dtype(leaf)}"
    raise ValueError(
        f"{name} is of type {kind}, which a checkpoint cannot hold; convert it to an "
        "array of numbers, or leave it out"
    )


def written(leaf: Any) -> Any:
    """Returns the array that orbax writes for a leaf."""
    leaf = _written(leaf)
    # With several processes, the first writes what each holds for itself.
    alone = hosts.count() > 1 and _is_jax(leaf) and leaf.is_fully_addressable
    return np.asarray(leaf) if alone else leaf


def nbytes(leaf: Any) -> int:
    """Returns the number of bytes written for a leaf."""
    data = jax.eval_shape(jax.random.key_data, leaf) if is_key(leaf) else leaf
    itemsize = 8 if _is_number(leaf) else np.dtype(_dtype(data)).itemsize
    return int(np.prod(np.shape(data), dtype=int)) * itemsize


def is_empty(leaf: Any) -> bool:
    """Whether a leaf has no elements; orbax rejects such arrays."""
    return 0 in np.shape(leaf)


def fits(leaf: Any, there: str) -> bool:
    """Whether a saved leaf with description `there` can be restored as `leaf`.

    A scalar and a Python number of the same kind fit; `back` checks the value.
    """
    here = describe(leaf)
    found = [_NUMBERS[words] for words in (here, there) if words in _NUMBERS]
    if here == there or not found:
        return here == there
    kind = found[0][1]
    other = [of(words) for words in (here, there)]
    return all(np.shape(x) == () and jnp.issubdtype(_dtype(x), kind) for x in other)


def wanted(leaf: Any, there: str) -> Any:
    """Returns the template by which orbax reads a leaf that was saved as `there`."""
    saved = of(there)
    if is_key(saved):
        saved = jax.eval_shape(jax.random.key_data, saved)
    shape, dtype = np.shape(saved), np.dtype(_dtype(saved))
    sharding = _data_sharding(leaf)
    if sharding is not None and _is_held(dtype):
        return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)
    return np.broadcast_to(np.zeros((), dtype), shape)  # takes no memory


def back(name: str, leaf: Any, there: str, array: Any) -> Any:
    """Returns the array that orbax read, with the type and placement of `leaf`.

    Args:
      name: name of the leaf in messages.
      leaf: leaf of `like`.
      there: description of the saved leaf.
      array: array that orbax read; None if the leaf is empty.
    """
    if array is None:
        array = _data_zeros(leaf)
    if _is_number(leaf):
        return _number_type(leaf)(array.item())
    if there in _NUMBERS:
        array = _scalar(name, leaf, array)
    if is_key(leaf):
        key = jax.random.wrap_key_data(_placed(leaf, array), impl=_key_impl(leaf))
        sharding = _sharding(leaf)
        same = sharding is None or key.sharding == sharding
        return key if same else jax.device_put(key, sharding)
    if _is_numpy(leaf) or not _is_held(array.dtype):
        array = np.array(array)
        return array[()] if isinstance(leaf, np.generic) else array
    return _weak_as(leaf, _placed(leaf, array))


def _placed(leaf, array):
    """Place an array on the leaf's devices; uncommitted if the leaf is."""
    sharding = _data_sharding(leaf)
    if sharding is not None:
        return jax.device_put(array, sharding) if not _is_jax(array) else array
    if not _is_jax(leaf):
        return jnp.array(array)
    with jax.default_device(next(iter(leaf.sharding.device_set))):
        return jnp.array(array)


def _weak_as(leaf, array):
    """Make an array weakly typed if the leaf is; this affects types of products."""
    if not getattr(leaf, "weak_type", False):
        return array
    value = next(t() for t, k in _NUMBERS.values() if jnp.issubdtype(array.dtype, k))
    weak = jnp.full(array.shape, value)
    if weak.dtype != array.dtype:
        return array
    weak = weak.at[...].set(array)
    return weak if not array.committed else jax.device_put(weak, array.sharding)


def _scalar(name, leaf, number):
    """Convert a Python number to a scalar of the leaf's type, which must hold it.

    A weakly typed scalar represents a Python number in JAX, which rounds it.
    """
    with np.errstate(over="ignore"):
        found = np.asarray(number).astype(_dtype(leaf))
    rounds = getattr(leaf, "weak_type", False) and found.dtype.kind in "fc"
    if not rounds and not np.array_equal(found.astype(number.dtype), number, True):
        raise CheckpointError(
            f"{name} was saved as the number {number}, which {found.dtype} cannot "
            "hold; give a Python number in its place"
        )
    return found


def _written(leaf):
    """Returns the array that holds a leaf's bits."""
    if _is_number(leaf):
        return np.array(leaf, np.dtype(_number_type(leaf)))
    if is_key(leaf):
        return jax.random.key_data(leaf)
    if _is_jax(leaf):
        return leaf
    return np.asarray(leaf, _dtype(leaf), order="C")


def _is_number(leaf):
    return isinstance(leaf, bool | int | float | complex) and not _is_numpy(leaf)


def _number_type(leaf):
    return next(t for t in (bool, int, float, complex) if isinstance(leaf, t))


def _is_jax(leaf):
    return isinstance(leaf, jax.Array)


def _is_numpy(leaf):
    """Whether a leaf is a NumPy value, or converts to one."""
    return isinstance(leaf, np.generic) or (
        not _is_jax(leaf) and hasattr(leaf, "__array__")
    )


def _dtype(leaf):
    """Returns the type of a leaf in the machine's byte order; 64 bits for numbers."""
    if _is_number(leaf):
        return np.dtype(_number_type(leaf))
    dtype = np.asarray(leaf).dtype if _is_numpy(leaf) else getattr(leaf, "dtype", None)
    if dtype is None:
        return np.asarray(leaf).dtype
    # The files hold native bytes.
    return dtype.newbyteorder("=") if isinstance(dtype, np.dtype) else dtype


def _is_storable(dtype):
    """Whether the files support a type; ml_dtypes has more types than they do."""
    try:
        return tensorstore.dtype(dtype.name).numpy_dtype == dtype
    except (TypeError, ValueError):
        return False


def _is_held(dtype):
    """Whether JAX supports a type; 64 bits need `jax_enable_x64`."""
    return jax.dtypes.canonicalize_dtype(dtype) == dtype


def _sharding(leaf):
    """Returns the sharding that a leaf is committed to, or None."""
    if _is_jax(leaf):
        return leaf.sharding if leaf.committed else None
    return None if _is_numpy(leaf) else getattr(leaf, "sharding", None)


def _data_sharding(leaf):
    """Returns the sharding of a leaf's written array; a key's has one more axis."""
    sharding = _sharding(leaf)
    by_names = (jax.sharding.NamedSharding, jax.sharding.SingleDeviceSharding)
    if sharding is None or not is_key(leaf) or isinstance(sharding, by_names):
        return sharding
    return jax.random.key_data(leaf).sharding


def _data_zeros(leaf):
    """Returns zeros in the shape and type of a leaf's written array."""
    data = jax.eval_shape(jax.random.key_data, leaf) if is_key(leaf) else leaf
    return np.zeros(np.shape(data), _dtype(data))


def _key_impl(leaf):
    """Returns the name of a key's generator, for an array or an abstract shape."""
    found = []
    jax.eval_shape(lambda key: found.append(str(jax.random.key_impl(key))), leaf)
    return found[0]
