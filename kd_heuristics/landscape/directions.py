"""Random directions, scaled to the weights they start from (Li et al. 2018)."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from kd_heuristics.curves import trees

PyTree = Any


def random_direction(
    key: jax.Array,
    params: PyTree,
    norm: str | None = "filter",
    *,
    vectors: str = "zero",
    filter_axis: int = -1,
) -> PyTree:
    """A Gaussian direction, normalised as by `normalize_direction`.

    Args:
      key: of the draw; each leaf has its own, by its place.
      params: the network to start from.
      norm: as in `normalize_direction`; None: standard normal, not normalised.
      vectors: as in `normalize_direction`; of no effect where `norm` is None.
      filter_axis: as in `normalize_direction`.

    Returns: a tree like `params`; leaves that are not floating-point are its own.

    >>> params = {"kernel": jnp.array([[3.0, 0.0], [4.0, 0.0]])}
    >>> found = random_direction(jax.random.key(0), params)["kernel"]
    >>> jnp.linalg.norm(found, axis=0).round(4).tolist()  # a filter is a column
    [5.0, 0.0]
    """
    leaves, structure = jax.tree.flatten(params)
    drawn = []
    for place, leaf in enumerate(leaves):
        if trees.is_inexact(leaf):
            own = jax.random.fold_in(key, place)
            wide = trees.widened(leaf)
            leaf = jax.random.normal(own, wide.shape, wide.dtype).astype(
                jnp.result_type(leaf)
            )
        drawn.append(leaf)
    direction = structure.unflatten(drawn)
    if norm is None:
        return direction
    return normalize_direction(
        direction, params, norm, vectors=vectors, filter_axis=filter_axis
    )


def normalize_direction(
    direction: PyTree,
    params: PyTree,
    norm: str = "filter",
    *,
    vectors: str = "zero",
    filter_axis: int = -1,
) -> PyTree:
    """Scales a direction d to the weights w that it starts from (Li et al. 2018, 4).

    A network with ReLU or batch norm computes the same after some of its weights are
    scaled up and others down, so a step of one length means more to small weights;
    scaled directions make surfaces comparable. For a filter f and a layer l:

    filter: d_f * |w_f| / |d_f|.     layer: d_l * |w_l| / |d_l|.
    unit_filter: d_f / |d_f|.        unit_layer: d_l / |d_l|.
    weight: d * w, entry by entry.

    Args:
      direction: a tree alike in structure, shapes and types.
      params: the network's weights.
      norm: one of the five above.
      vectors: what leaves of fewer than two axes get (biases, batch norm): "zero", as
        in the paper's figures, or "weights", their own values.
      filter_axis: along which a leaf's filters lie: -1 for Flax, where the outputs are
        last, 0 for Equinox and PyTorch.

    Returns: a tree like `direction`. A filter or layer whose direction is zero stays
      zero.

    Raises: ValueError for an unknown norm, or that names the first leaf that differs.

    >>> w, d = jnp.array([[3.0], [4.0]]), jnp.array([[0.0], [1.0]])
    >>> normalize_direction(d, w)[:, 0].tolist()
    [0.0, 5.0]
    """
    if norm not in _NORMS:
        raise ValueError(f"norm must be one of {sorted(_NORMS)}, got {norm!r}")
    if vectors not in ("zero", "weights"):
        raise ValueError(f'vectors must be "zero" or "weights", got {vectors!r}')
    trees.check_alike([params, direction], constants=False)

    def scaled(d, w):
        if not trees.is_inexact(d):
            return d
        if jnp.ndim(d) < 2:
            return jnp.zeros_like(d) if vectors == "zero" else jnp.asarray(w)
        result = _NORMS[norm](trees.widened(d), trees.widened(w), filter_axis)
        return result.astype(d.dtype)

    return jax.tree.map(scaled, direction, params)


def _by_filter(d, w, axis, unit=False):
    others = tuple(k for k in range(d.ndim) if k != axis % d.ndim)
    return d * _ratio(d, None if unit else w, others)


def _by_layer(d, w, axis, unit=False):
    return d * _ratio(d, None if unit else w, None)


def _by_weight(d, w, axis):
    return d * w


def _ratio(d, w, axes):
    """|w| / |d| over the axes, 0 where d is 0; 1 / |d| where there is no w."""
    length = _length(d, axes)
    target = 1 if w is None else _length(w, axes)
    return jnp.where(length > 0, target / jnp.where(length > 0, length, 1), 0)


def _length(x, axes):
    squares = jnp.square(jnp.abs(x)).sum(axis=axes, keepdims=True)
    return trees.safe_sqrt(squares)


_NORMS = {
    "filter": _by_filter,
    "layer": _by_layer,
    "weight": _by_weight,
    "unit_filter": functools.partial(_by_filter, unit=True),
    "unit_layer": functools.partial(_by_layer, unit=True),
}
