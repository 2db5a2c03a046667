"""Shampoo: preconditions blocks of gradients from both sides.

Sources: Gupta et al. 2018, "Shampoo: Preconditioned Stochastic Tensor Optimization",
algorithm 1; Anil et al. 2020, "Scalable Second Order Optimization for Deep Learning",
for blocks, moving averages and grafting. Beyer et al. 2022, section 3.4 and appendix D,
distil with it: blocks of at most 128 x 128, new roots at every step, Nesterov momentum.

Not supported: distributing the roots over several devices. Every device computes all of
them from eigenvalues, which is slow for large blocks on a TPU.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from kd_heuristics.runtime import decompositions, values
from kd_heuristics.runtime.precision import common_type
from kd_heuristics.training.optimizers import (
    Mask,
    Number,
    Rate,
    clipping,
    decoupled,
)

PyTree = Any


class ShampooState(NamedTuple):
    """Step count, moving averages and roots, each in the order of the leaves.

    `moments` and `roots` are pairs (left, right). For blocks [p, q, a, b] they have
    shapes [p, q, a, a] and [p, q, b, b]; for a leaf without blocks they are None.
    `square` has the leaves' own shapes. All are in float32, or in the leaf's type if it
    is wider.
    """

    count: jax.Array
    moments: tuple[tuple[Any, ...], tuple[Any, ...]]
    roots: tuple[tuple[Any, ...], tuple[Any, ...]]
    square: tuple[Any, ...]


def shampoo(
    learning_rate: Rate,
    schedule: optax.Schedule | None = None,
    weight_decay: Number = 0.0,
    clip_norm: Number | None = None,
    *,
    momentum: Number = 0.9,
    block_size: Number = 128,
    every_steps: Number = 1,
    mask: Mask | None = None,
) -> optax.GradientTransformation:
    """Shampoo with Nesterov momentum in place of Adam's step; see `training.adam`.

    Args:
      learning_rate: see `training.adam`.
      schedule: see `training.adam`.
      weight_decay: see `training.adam`.
      clip_norm: see `training.adam`.
      momentum: in [0, 1). The mean of the past directions is (1 - momentum) times their
        sum, so that rates chosen for `training.adam` fit.
      block_size: see `scale_by_shampoo`.
      every_steps: see `scale_by_shampoo`.
      mask: see `training.adam`.

    Raises: see `training.adam`.
    """
    values.require_share("momentum", momentum, "0.9 is usual")
    return optax.chain(
        *clipping(clip_norm),
        scale_by_shampoo(block_size=block_size, every_steps=every_steps),
        optax.trace(momentum, nesterov=True),
        optax.scale(1 - momentum),
        *decoupled(learning_rate, schedule, weight_decay, mask),
    )


def scale_by_shampoo(
    *,
    block_size: Number = 128,
    decay: Number = 0.99,
    epsilon: Number = 1e-6,
    every_steps: Number = 1,
) -> optax.GradientTransformation:
    """Precondition gradients; chain it with momentum and a negative rate.

    A leaf [..., d] is viewed as a matrix [rest, d] and cut into blocks G with sides of
    at most block_size. The moving averages have decay b and are bias-corrected:

        L <- b L + (1 - b) G G'      R <- b R + (1 - b) G' G      v <- b v + (1 - b) g^2
        P = (L + e1 I)^(-1/4) G (R + e2 I)^(-1/4)

    Here e1 and e2 are epsilon times the largest eigenvalue of L and R. All blocks P of
    a leaf are scaled together to the norm of g / (sqrt(v) + 1e-8) over the leaf
    (grafting): Shampoo gives the direction, RMSProp the length. Vectors, scalars and
    leaves of one row or column get that quotient itself.

    Args:
      block_size: largest side of a block, at least 1.
      decay: b, in [0, 1).
      epsilon: ridge of the roots, positive.
      every_steps: n; the roots are recomputed at steps 0, n, 2 n, ...

    Raises: ValueError if a number is out of its range.

    >>> import optax
    >>> optimizer = optax.chain(scale_by_shampoo(), optax.scale(-0.1))
    >>> params = {"kernel": jnp.eye(2), "bias": jnp.ones(2)}
    >>> updates, _ = optimizer.update(params, optimizer.init(params), params)
    >>> [round(float(u), 3) for u in (*jnp.diag(updates["kernel"]), *updates["bias"])]
    [-0.1, -0.1, -0.1, -0.1]
    """
    _check(block_size, decay, epsilon, every_steps)
    size = int(block_size)

    def init(params):
        return _initial(params, size)

    def update(updates, state, params=None):
        del params
        given, structure = jax.tree.flatten(updates)
        leaves = [
            leaf.astype(square.dtype)
            for leaf, square in zip(given, state.square, strict=True)
        ]
        count = state.count + 1
        correction = 1 - jnp.float32(decay) ** count.astype(jnp.float32)

        def averaged(old, new):
            return decay * old + (1 - decay) * new

        square = tuple(
            averaged(old, jnp.square(leaf))
            for old, leaf in zip(state.square, leaves, strict=True)
        )
        blocks = [
            None if left is None else _split(leaf, size)
            for leaf, left in zip(leaves, state.moments[0], strict=True)
        ]
        left, right = (
            tuple(
                None if g is None else averaged(old, _einsum(rule, g, g))
                for old, g in zip(olds, blocks, strict=True)
            )
            for rule, olds in (
                ("pqac,pqbc->pqab", state.moments[0]),
                ("pqca,pqcb->pqab", state.moments[1]),
            )
        )
        roots = jax.lax.cond(
            state.count % every_steps == 0,
            lambda: jax.tree.map(
                lambda m: _inverse_fourth_root(m / correction, epsilon), (left, right)
            ),
            lambda: state.roots,
        )
        directions = [
            _direction(leaf, v / correction, g, *pair).astype(own.dtype)
            for own, leaf, v, g, *pair in zip(
                given, leaves, square, blocks, *roots, strict=True
            )
        ]
        state = ShampooState(count, (left, right), roots, square)
        return structure.unflatten(directions), state

    return optax.GradientTransformation(init, update)


# With an accelerator's default bfloat16 products, the roots lose most of their digits.
_einsum = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)


def _direction(leaf, square, blocks, left_root, right_root):
    """Returns the preconditioned gradient of a leaf, with the norm of RMSProp's."""
    plain = leaf / (jnp.sqrt(square) + 1e-8)
    if blocks is None:
        return plain
    found = _join(
        _einsum("pqab,pqbc,pqcd->pqad", left_root, blocks, right_root), leaf.shape
    )
    norm, wanted = (jnp.sqrt(jnp.square(x).sum()) for x in (found, plain))
    return found * (wanted / jnp.maximum(norm, jnp.finfo(leaf.dtype).tiny))


def _inverse_fourth_root(matrices, epsilon):
    """Returns (M + epsilon * largest eigenvalue * I)^(-1/4), symmetric [..., n, n]."""

    def root(matrix):
        values, vectors = decompositions.eigh(matrix)
        largest = jnp.maximum(values[:1], 1e-30)  # a block without any gradient
        roots = jnp.maximum(values, 0) + epsilon * largest
        return _einsum("ab,b,cb->ac", vectors, roots**-0.25, vectors)

    found = jax.vmap(root)(matrices.reshape(-1, *matrices.shape[-2:]))
    return found.reshape(matrices.shape)


def _matrix_shape(shape) -> Any:
    """Returns rows and columns of a leaf, or None if it has only one of either."""
    if len(shape) < 2:
        return None
    rows = 1
    for size in shape[:-1]:
        rows *= size
    return (rows, shape[-1]) if min(rows, shape[-1]) > 1 else None


def _block_shape(shape, block_size) -> Any:
    """Returns (blocks down, blocks across, rows, columns) of the blocks, or None."""
    matrix = _matrix_shape(shape)
    if matrix is None:
        return None
    counts = tuple(-(-side // block_size) for side in matrix)
    # Equal blocks: a side of 130 is cut into 65 and 65, not into 128 and 2.
    sides = tuple(-(-side // n) for side, n in zip(matrix, counts, strict=True))
    return (*counts, *sides)


def _split(leaf, block_size):
    """Cut a leaf into blocks [p, q, a, b], padded with zeros."""
    p, q, a, b = _block_shape(leaf.shape, block_size)
    matrix = leaf.reshape(-1, leaf.shape[-1])
    rows, columns = matrix.shape
    matrix = jnp.pad(matrix, ((0, p * a - rows), (0, q * b - columns)))
    return matrix.reshape(p, a, q, b).transpose(0, 2, 1, 3)


def _join(blocks, shape):
    """Undo `_split`."""
    p, q, a, b = blocks.shape
    rows, columns = _matrix_shape(shape)
    matrix = blocks.transpose(0, 2, 1, 3).reshape(p * a, q * b)
    return matrix[:rows, :columns].reshape(shape)


def _initial(params, size: int) -> ShampooState:
    """Returns the state before the first step."""
    left, right, square = [], [], []
    for leaf in jax.tree.leaves(params):
        dtype = common_type(leaf.dtype, jnp.float32)
        square.append(jnp.zeros(leaf.shape, dtype))
        shape = _block_shape(leaf.shape, size)
        p, q, a, b = shape or (0, 0, 0, 0)
        left.append(jnp.zeros((p, q, a, a), dtype) if shape else None)
        right.append(jnp.zeros((p, q, b, b), dtype) if shape else None)
    moments = tuple(left), tuple(right)
    roots = jax.tree.map(jnp.copy, moments)  # no buffer is donated twice
    return ShampooState(jnp.int32(0), moments, roots, tuple(square))


def _check(block_size, decay, epsilon, every_steps):
    """Raise ValueError if a known number is out of its range."""
    values.require_whole("block_size", block_size, 1, "give a whole number")
    values.require_whole("every_steps", every_steps, 1, "give a whole number")
    values.require_share("decay", decay, "0.99 is usual")
    values.require("epsilon", epsilon, 0, "1e-6 is usual", strict=True)
