"""Hessian of a mean loss, as a linear map on flat vectors, batch by batch."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kd_heuristics.curves.trees import is_inexact
from kd_heuristics.points.batches import stacked
from kd_heuristics.pytrees import leaf_names
from kd_heuristics.runtime import compiled
from kd_heuristics.runtime.precision import common_type, widened

PyTree = Any
Loss = Callable[[PyTree, PyTree], jax.Array]


class Problem(NamedTuple):
    """Checked arguments of a call.

    Attributes:
      loss: the loss as a pytree, so that a program can take it as an argument.
      params: the parameters.
      batches: arrays [num_batches, batch, ...].
      dimension: number of entries of the floating-point leaves.
    """

    loss: jax.tree_util.Partial
    params: PyTree
    batches: PyTree
    dimension: int


def checked(loss: Loss, params: PyTree, batches: PyTree) -> Problem:
    """Checks the arguments before any product, and returns them in one form.

    Raises: ValueError if a leaf is complex or not an array, no leaf is floating-point,
      there is no batch or the batches differ, or the loss is not a finite real scalar.
    """
    batches = jax.tree.map(jnp.asarray, stacked(batches))
    leaves = leaf_names.flat(params)
    _check_leaves(leaves)
    (num_batches,) = {np.shape(leaf)[0] for leaf in jax.tree.leaves(batches)}
    if num_batches == 0:
        raise ValueError("batches must hold at least one batch, got none")
    loss = compiled.as_partial(loss)
    _check_scalar(jax.eval_shape(_first_loss, loss, params, batches))
    if not compiled.traced((loss, params, batches)):
        value = float(_mean_loss(loss, params, batches))
        if not np.isfinite(value):
            raise ValueError(
                f"the loss must be finite, got {value}; the network has diverged, or "
                "a batch holds NaN or no examples"
            )
    dimension = sum(np.size(leaf) for leaf in leaves.values() if is_inexact(leaf))
    return Problem(loss, params, batches, dimension)


class NotFiniteError(ValueError):
    """The Hessian is not finite where the loss is."""


def check_finite(values: Any) -> None:
    """Raises NotFiniteError if known results are not finite."""
    if not compiled.traced(values) and not all(
        np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(values)
    ):
        raise NotFiniteError(
            "the Hessian is not finite at these params, though the loss is; look for a "
            "root, a norm or a logarithm at 0 in the loss"
        )


class Flat:
    """Maps the floating-point leaves of a tree to one vector, in at least float32."""

    def __init__(self, params: PyTree):
        leaves, self.structure = jax.tree.flatten(params)
        self.all = leaves
        self.places = [n for n, leaf in enumerate(leaves) if is_inexact(leaf)]
        self.leaves = [widened(leaves[place]) for place in self.places]
        self.dtype = common_type(*(leaf.dtype for leaf in self.leaves))
        self.size = sum(leaf.size for leaf in self.leaves)

    def vector(self, leaves: list[jax.Array]) -> jax.Array:
        """Concatenates leaves like `self.leaves` to a vector."""
        return jnp.concatenate([leaf.ravel().astype(self.dtype) for leaf in leaves])

    def split(self, vector: jax.Array) -> list[jax.Array]:
        """Splits a vector into leaves like `self.leaves`."""
        ends = np.cumsum([leaf.size for leaf in self.leaves])[:-1]
        parts = jnp.split(vector, ends.tolist())
        return [
            part.reshape(leaf.shape).astype(leaf.dtype)
            for part, leaf in zip(parts, self.leaves, strict=True)
        ]

    def tree(self, leaves: list[jax.Array]) -> PyTree:
        """Returns the tree with other floating-point leaves."""
        found = list(self.all)
        for place, leaf in zip(self.places, leaves, strict=True):
            found[place] = leaf
        return self.structure.unflatten(found)


def products(loss: Loss, flat: Flat, batches: PyTree) -> Callable:
    """Returns `v -> H v`, H the Hessian of the mean loss over all batches.

    H v = sum over b of share_b * d/de grad loss_b(params + e v) at e = 0: the forward
    derivative of the gradient, one batch after another in a scan. A product needs the
    memory of a gradient and its derivative on one batch.
    """

    def times(vector):
        tangents = flat.split(vector)

        def add(total, row):
            batch, share = row
            gradient = jax.grad(lambda leaves: loss(flat.tree(leaves), batch))
            _, curved = jax.jvp(gradient, (flat.leaves,), (tangents,))
            # where, not a product: the loss of a batch without examples may be 0 / 0.
            part = jnp.where(share == 0, 0, share * flat.vector(curved))
            return total + part, None

        rows = batches, _shares(batches, flat.dtype)
        return jax.lax.scan(add, jnp.zeros_like(vector), rows)[0]

    return times


@compiled.jit
def _mean_loss(loss, params, batches):
    dtype = common_type(jnp.float32, _first_loss(loss, params, batches).dtype)

    def add(total, row):
        batch, share = row
        value = loss(params, batch).astype(dtype)
        return total + jnp.where(share == 0, 0, share * value), None

    rows = batches, _shares(batches, dtype)
    return jax.lax.scan(add, jnp.zeros((), dtype), rows)[0]


def _shares(batches, dtype) -> jax.Array:
    """Returns the weight of each batch in the mean, [num_batches].

    It is the batch's share of the examples that a "mask" marks (`data.eval_batches`);
    without a mask, all batches weigh the same.
    """
    mask = batches.get("mask") if isinstance(batches, Mapping) else None
    if mask is None:
        number = len(jax.tree.leaves(batches)[0])
        return jnp.full(number, 1 / number, dtype)
    counts = jnp.asarray(mask).astype(dtype).reshape(len(mask), -1).sum(1)
    return counts / counts.sum()


def _first_loss(loss, params, batches):
    return loss(params, jax.tree.map(lambda leaf: leaf[0], batches))


def _check_leaves(leaves):
    for name, leaf in leaves.items():
        if not isinstance(leaf, jax.Array | np.ndarray | np.generic | float | int):
            raise ValueError(
                f"leaf {name!r} of params is a {type(leaf).__name__}, not a real array;"
                " separate it (equinox.partition) and combine both in the loss"
            )
        if hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.complexfloating):
            raise ValueError(
                f"leaf {name!r} of params is complex; give its real and imaginary parts"
            )
    if not any(is_inexact(leaf) and np.size(leaf) for leaf in leaves.values()):
        raise ValueError(
            f"params has no floating-point entry to differentiate by, got {[*leaves]}"
        )


def _check_scalar(found):
    shape, dtype = getattr(found, "shape", None), getattr(found, "dtype", None)
    real = dtype is not None and jnp.issubdtype(dtype, jnp.floating)
    if shape != () or not real:
        raise ValueError(
            "loss(params, batch) must return one real number, the mean over the "
            f"batch, got {jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), found)}"
        )
