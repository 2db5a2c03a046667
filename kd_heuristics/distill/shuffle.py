"""Shuffled FSP: one teacher, another target for each student of an ensemble."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

Orders = tuple[tuple[jax.Array, jax.Array], ...]


def channel_orders(key: jax.Array, matrices: Sequence[Any]) -> Orders:
    """Random orders of the rows and of the columns of each flow matrix.

    Drawn once for a student and then kept: with its channels in another order the
    teacher is the same function, but a student that must match it elsewhere starts the
    second stage from other weights (Yim et al. 2017, sec. 4.1, the rows marked with a
    dagger). Rows and columns are drawn apart, and apart for each pair.

    Args:
      key: of the student; fold its number into a common key.
      matrices: [batch, m, n] each, or their shapes (`jax.eval_shape`).

    Returns: int32 ([m], [n]) a matrix, for `shuffled`.
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
    """A teacher's flow matrices with their rows and columns in another order.

    out[b, i, j] = matrix[b, rows[i], columns[j]]

    Args:
      matrices: [batch, m, n] each, of `fsp_matrices`.
      orders: (rows [m], columns [n]) each, of `channel_orders`.

    Returns: [batch, m, n] each.

    Raises: ValueError where the orders are not as many or as long as the matrices ask.

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
    rows, columns = jnp.asarray(rows), jnp.asarray(columns)
    if matrix.shape[1:] != rows.shape + columns.shape:
        raise ValueError(
            f"matrix {number} has shape {matrix.shape} and orders of {rows.shape} and "
            f"{columns.shape}; draw them with channel_orders for these matrices"
        )
    return matrix[:, rows][:, :, columns]
