"""Inner products of networks, computed in float64 on the host."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from kd_heuristics.curves import trees

PyTree = Any


def gram(points: Sequence[PyTree], origin: PyTree | None = None) -> np.ndarray:
    """Returns inner products of the floating-point leaves, float64 [points, points].

    Proceeds leaf by leaf, so that only one leaf is held in float64 at a time.

    Args:
      points: trees with equal structure and shapes, of arrays that are not traced.
      origin: tree subtracted from each point; `None` subtracts nothing.

    Raises: ValueError if a value is infinite or NaN.
    """
    total = np.zeros((len(points), len(points)))
    with_origin = [*points] if origin is None else [*points, origin]
    for values in trees.moving(with_origin):
        rows = np.stack([_flat(value) for value in values])
        if origin is not None:
            rows = rows[:-1] - rows[-1]
        total += rows @ rows.T
    if not np.isfinite(total).all():
        raise ValueError("a network holds infinite or NaN values; give finite ones")
    return total


def rounding(points: Sequence[PyTree]) -> float:
    """Returns the largest displacement of a network by the rounding of its leaves.

    sqrt(sum over leaves of (eps * norm of the leaf)^2), maximised over the networks.
    """
    squares = np.zeros(len(points))
    for values in trees.moving(points):
        eps = float(jnp.finfo(jnp.result_type(values[0])).eps)
        squares += [(eps * np.linalg.norm(_flat(value))) ** 2 for value in values]
    return float(np.sqrt(squares.max()))


def _flat(leaf) -> np.ndarray:
    """Returns a leaf as a float64 vector; complex parts are concatenated."""
    array = np.asarray(leaf).ravel()
    if np.iscomplexobj(array):
        array = np.concatenate([array.real, array.imag])
    return array.astype(np.float64)
