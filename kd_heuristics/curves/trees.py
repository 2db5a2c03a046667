"""Trees that may lie on one curve: what must agree, and how far apart they are."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kd_heuristics.pytrees import leaf_names
from kd_heuristics.runtime.leaves import key_data
from kd_heuristics.runtime.precision import common_type, widened

PyTree = Any


def is_inexact(leaf: Any) -> bool:
    """Whether a leaf is a floating-point or complex number or array.

    >>> is_inexact(1.0), is_inexact(jnp.zeros(2)), is_inexact(3), is_inexact("relu")
    (True, True, False, False)
    """
    if isinstance(leaf, float | complex):
        return True
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.inexact)


def check_alike(trees: Sequence[PyTree], constants: bool = True) -> None:
    """Raises ValueError at the first leaf in which the trees differ.

    They must agree in structure, in the shape and type of each leaf and, if
    `constants`, in the value of each leaf that is not floating-point: integers, typed
    keys, functions. Values that jax traces are not compared. An array of another
    framework, as PyTorch's, is a TypeError.
    """
    first, structure = jax.tree.flatten(trees[0])
    for place, leaf in enumerate(first):
        if _is_foreign(leaf):
            kind = f"{type(leaf).__module__}.{type(leaf).__qualname__}"
            raise TypeError(
                f"leaf {leaf_names.names(trees[0])[place]!r} is a {kind}; give NumPy "
                "or JAX arrays, of a PyTorch module {k: v.numpy() for k, v in "
                "module.state_dict().items()}"
            )
    for number, tree in enumerate(trees[1:], start=1):
        leaves, other = jax.tree.flatten(tree)
        if structure != other:
            raise ValueError(
                f"trees must have one structure: {_mismatch(trees[0], tree)}"
                f" (trees 0 and {number})"
            )
        for place, (a, b) in enumerate(zip(first, leaves, strict=True)):
            difference = _difference(a, b, constants)
            if difference:
                name = leaf_names.names(tree)[place]
                raise ValueError(
                    f"leaf {name!r} of trees 0 and {number} differs: {difference}"
                )


def _is_foreign(leaf) -> bool:
    """Whether a leaf is an array of another framework, as PyTorch's."""
    ours = isinstance(leaf, np.ndarray | np.generic | jax.Array)
    return hasattr(leaf, "__array__") and not (ours or hasattr(leaf, "__jax_array__"))


def distance(a: PyTree, b: PyTree) -> jax.Array:
    """Euclidean distance over all floating-point leaves.

    sqrt(sum over leaves and entries of |a - b|^2), in float32 or wider; other leaves
    do not count. Its gradient where the trees are equal is 0. It is NaN if a leaf holds
    NaN.

    Args:
      a: any tree.
      b: a tree of the same structure, shapes and types.

    Returns: a scalar.

    Raises: ValueError that names the first leaf that differs in shape or type.

    >>> float(distance({"w": jnp.zeros(2)}, {"w": jnp.array([3.0, 4.0])}))
    5.0
    """
    check_alike([a, b], constants=False)
    return _distance(moving([a, b]))


def moving(trees: Sequence[PyTree]) -> list[tuple[Any, ...]]:
    """Each floating-point leaf, as a tuple of its values in the trees."""
    by_tree = zip(*map(jax.tree.leaves, trees), strict=True)
    return [values for values in by_tree if is_inexact(values[0])]


def combine(weights: jax.Array, trees: Sequence[PyTree]) -> PyTree:
    """The sum of weights[k] * trees[k] over floating-point leaves.

    Sums run in float32 or wider and are rounded to the leaf's type; a tree of weight 0
    has no part in them, and where one tree has weight 1 and the others 0 it comes back
    bit for bit. Other leaves are the first tree's.

    Args:
      weights: [trees], of any sign, summing to 1.
      trees: alike in structure, shapes and types.
    """
    leaves, structure = jax.tree.flatten(trees[0])
    mixed = iter(_mix(weights, moving(trees)))
    return structure.unflatten(
        next(mixed) if is_inexact(leaf) else leaf for leaf in leaves
    )


def total(values: Sequence[jax.Array], shape: tuple[int, ...] = ()) -> jax.Array:
    """The sum of arrays of one shape, in float32 or wider; 0 of none."""
    dtype = common_type(jnp.float32, *(value.dtype for value in values))
    return sum((value.astype(dtype) for value in values), jnp.zeros(shape, dtype))


def safe_sqrt(square: jax.Array) -> jax.Array:
    """The root of a sum of squares, with gradient 0 where it is 0; NaN of NaN."""
    positive = ~(square <= 0)
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, square, 1)), 0)


@jax.custom_jvp
def pinned(value: jax.Array, where: Any, exact: Any) -> jax.Array:
    """`exact` where the condition holds, else `value`, whose derivative it always has.

    For places where a formula is known to give `exact` but for rounding.
    """
    return jnp.where(where, exact, value)


@pinned.defjvp
def _pinned_jvp(primals, tangents):
    return pinned(*primals), tangents[0]


@jax.jit
def _distance(pairs):
    differences = [widened(y) - widened(x) for x, y in pairs]
    squares = [jnp.square(jnp.abs(values)).sum() for values in differences]
    return safe_sqrt(total(squares))


@jax.jit
def _mix(weights, leaves):
    """The weighted sum of each leaf's values at the points."""
    return [_weighted_sum(weights, values) for values in leaves]


@jax.custom_jvp
def _weighted_sum(weights, values):
    """The sum of weights[k] * values[k]; values[k] itself where only k has a part.

    Selected, not computed: a sum loses the sign of zero and flushes subnormal numbers,
    and a product with 0 lets an infinite point spoil the others. The derivative is that
    of the sum.
    """
    terms = [
        jnp.where(weight == 0, 0, _product(weight, value))
        for weight, value in zip(weights, values, strict=True)
    ]
    result = sum(terms[1:], terms[0]).astype(jnp.result_type(values[0]))
    alone = (weights != 0).sum() == 1
    for weight, value in zip(weights, values, strict=True):
        result = jnp.where(alone & (weight == 1), value, result)
    return result


def _product(weight, value):
    """In float32 or wider, also under strict promotion."""
    value = widened(value)
    dtype = common_type(weight.dtype, value.dtype)
    return weight.astype(dtype) * value.astype(dtype)


@_weighted_sum.defjvp
def _weighted_sum_jvp(primals, tangents):
    (weights, values), (weights_dot, values_dot) = primals, tangents
    terms = [
        _product(dw, v) + _product(w, dv)
        for w, v, dw, dv in zip(weights, values, weights_dot, values_dot, strict=True)
    ]
    result = _weighted_sum(weights, values)
    return result, sum(terms[1:], terms[0]).astype(result.dtype)


def _difference(a, b, constants) -> str | None:
    """In what two leaves differ, in words."""
    types = [getattr(leaf, "dtype", type(leaf).__name__) for leaf in (a, b)]
    if types[0] != types[1]:
        return f"type {types[0]} and {types[1]}"
    if np.shape(a) != np.shape(b):
        return f"shape {np.shape(a)} and {np.shape(b)}"
    if constants and not is_inexact(a) and not _same(a, b):
        return f"it is not floating-point, and its values are {a} and {b}"
    return None


def _same(a, b) -> bool:
    """Whether two leaves have equal values; True if jax traces one."""
    if a is b:
        return True
    if not hasattr(a, "dtype"):
        return bool(a == b)
    a, b = key_data(a), key_data(b)
    try:
        return np.array_equal(np.asarray(a), np.asarray(b))
    except jax.errors.JAXTypeError:
        return True  # Traced: unknown here.


def _mismatch(first, other) -> str:
    """Which leaf only one of two trees of different structure has."""
    names = [leaf_names.names(tree) for tree in (first, other)]
    for here, there, words in ((0, 1, "second"), (1, 0, "first")):
        missing = [name for name in names[here] if name not in set(names[there])]
        if missing:
            return f"leaf {missing[0]!r} is missing in the {words}"
    return f"leaf {names[0][0]!r} lies in containers of different types"
