"""Shuffles FSP targets, so that each student of an ensemble gets a different one."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

Orders = tuple[tuple[jax.Array, jax.Array], ...]


def channel_orders(key: jax.Array, matrices: Sequence[Any]) -> Orders:
    """Draws random orders of the rows and of the columns of each flow matrix.

    Draw them once per student and keep them. Reordering its channels does not change
    the teacher's function, but a student that matches them in another order starts the
    second stage from other weights (Yim et al. 2017, sec. 4.1, rows marked with a
    dagger). Rows and columns of each pair have independent orders.

    Args:
      key: random key of the student; fold its number into a common key.
      matrices: [batch, m, n] each, or their shapes (`jax.eval_shape`).

    Returns: int32 ([m], [n]) per matrix, for `shuffled`.
    """
    keys = jax.random.split(key, (len(matrices), 2))
    return tuple(
        (
            jax.random.permutation(row_key, matrix.shape[1]),
            jax.random.permutation(column_key, matrix.shape[2]),
        )
        for (row_key, column_key), matrix in zip(keys, matrices, strict=True)
    )


def shuffled(
    matrices: Sequence[ArrayLike], orders: Sequence[tuple[ArrayLike, ArrayLike]]
) -> tuple[jax.Array, ...]:
    """Reorders the rows and columns of a teacher's flow matrices.

    out[b, i, j] = matrix[b, rows[i], columns[j]]

    Args:
      matrices: [batch, m, n] each, from `fsp_matrices`.
      orders: (rows [m], columns [n]) each, from `channel_orders`.

    Returns: [batch, m, n] each.

    Raises: ValueError if the number or lengths of the orders do not fit the matrices.

    >>> swapped = (jnp.array([1, 0]), jnp.array([0, 1]))
    >>> shuffled([jnp.array([[[1, 2], [3, 4]]])], [swapped])[0].tolist()
    [[[3, 4], [1, 2]]]
    """
    if len(matrices) != len(orders):
        raise ValueError(
            f"{len(matrices)} matrices have {len(orders)} orders; draw them with "
            "channel_orders for these matrices"
        )
    return tuple(
        _shuffled(number, jnp.asarray(matrix), *order)
        for number, (matrix, order) in enumerate(zip(matrices, orders, strict=True))
    )


def _shuffled(number, matrix, rows, columns):
    """Reorders one matrix; its number is for the message."""
    rows, columns = jnp.asarray(rows), jnp.asarray(columns)
    if matrix.shape[1:] != rows.shape + columns.shape:
        raise ValueError(
            f"matrix {number} has shape {matrix.shape} and orders of {rows.shape} and "
            f"{columns.shape}; draw them with channel_orders for these matrices"
        )
    return matrix[:, rows][:, :, columns]
