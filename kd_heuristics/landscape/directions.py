"""Random directions, scaled to the weights they start from (Li et al. 2018)."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from kd_heuristics.curves import trees
from kd_heuristics.landscape.filters import FilterAxes, FilterAxis, filter_axes
from kd_heuristics.runtime.precision import widened

PyTree = Any


def random_direction(
    key: jax.Array,
    params: PyTree,
    norm: str | None = "filter",
    *,
    vectors: str = "zero",
    filter_axis: FilterAxis = None,
) -> PyTree:
    """Draw a Gaussian direction and normalise it by `normalize_direction`.

    Args:
      key: random key; it is folded with the position of each leaf.
      params: the network at which the direction starts.
      norm: as in `normalize_direction`; `None` keeps the standard normal draw.
      vectors: as in `normalize_direction`; has no effect if `norm` is None.
      filter_axis: as in `normalize_direction`.

    Returns: a tree like `params`, with its leaves that are not floating-point.

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
            wide = widened(leaf)
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
    filter_axis: FilterAxis = None,
) -> PyTree:
    """Scale a direction d to the weights w at which it starts (Li et al. 2018, 4).

    Scaling some weights up and others down leaves the function of a network with ReLU
    or batch norm unchanged, so a step of given length has more effect on small weights.
    Scaled directions make surfaces comparable. For a filter f and a layer l:

    filter: d_f * |w_f| / |d_f|.     layer: d_l * |w_l| / |d_l|.
    unit_filter: d_f / |d_f|.        unit_layer: d_l / |d_l|.
    weight: d * w, entry by entry.

    Args:
      direction: a tree with the structure, shapes and types of `params`.
      params: the network's weights.
      norm: one of the five above.
      vectors: value for biases, scales of norms and all leaves with fewer than two
        axes: "zero", as in the paper's figures, or "weights", their own values.
      filter_axis: axis along which a leaf's filters lie. `None` infers it. In Flax it
        is the last axis, or several axes for attention, plus the first axis of layers
        stacked by `nn.scan` or `nnx.vmap`; in Equinox modules it is the first axis. A
        number is the axis of all kernels, 0 for PyTorch. A function,
        `("fc/kernel", shape) -> FilterAxes`, gives it leaf by leaf, with None for a
        vector. A stack needs a function if it lies along another axis, or has no bias
        or scale by which to infer it.

    Returns: a tree like `direction`. A filter or layer whose direction is zero stays
      zero.

    Raises: ValueError for an unknown norm, for trees that differ (the message names the
      first such leaf), or for a leaf that may or may not be a stack.

    >>> w, d = jnp.array([[3.0], [4.0]]), jnp.array([[0.0], [1.0]])
    >>> normalize_direction(d, w)[:, 0].tolist()
    [0.0, 5.0]
    """
    if norm not in _NORMS:
        raise ValueError(f"norm must be one of {sorted(_NORMS)}, got {norm!r}")
    if vectors not in ("zero", "weights"):
        raise ValueError(f'vectors must be "zero" or "weights", got {vectors!r}')
    trees.check_alike([params, direction], constants=False)

    def scaled(d, w, axes):
        if not trees.is_inexact(d):
            return d
        if axes is None:
            return jnp.zeros_like(d) if vectors == "zero" else jnp.asarray(w)
        result = _NORMS[norm](widened(d), widened(w), axes)
        return result.astype(jnp.result_type(d))

    found, structure = jax.tree.flatten(direction)
    rows = zip(
        found, jax.tree.leaves(params), filter_axes(params, filter_axis), strict=True
    )
    return structure.unflatten(scaled(*row) for row in rows)


def _by_filter(d, w, axes: FilterAxes, unit=False):
    """Scale each filter to the norm of its weights, or to 1."""
    return _scaled(d, None if unit else w, (*axes.layers, *axes.filters))


def _by_layer(d, w, axes: FilterAxes, unit=False):
    """Scale each layer to the norm of its weights, or to 1."""
    return _scaled(d, None if unit else w, axes.layers)


def _by_weight(d, w, axes: FilterAxes):
    return d * w


def _scaled(d, w, own):
    """Scale d to the length of w for each index of the axes `own`."""
    others = tuple(axis for axis in range(d.ndim) if axis not in own)
    return d * _ratio(d, w, others)


def _ratio(d, w, axes):
    """Returns |w| / |d| over the axes, 0 if d is 0; 1 / |d| if there is no w."""
    length = _length(d, axes)
    target = 1 if w is None else _length(w, axes)
    return jnp.where(length > 0, target / jnp.where(length > 0, length, 1), 0)


def _length(x, axes):
    """Returns the norm over the axes, which are kept."""
    squares = jnp.square(jnp.abs(x)).sum(axis=axes, keepdims=True)
    return trees.safe_sqrt(squares)


_NORMS = {
    "filter": _by_filter,
    "layer": _by_layer,
    "weight": _by_weight,
    "unit_filter": functools.partial(_by_filter, unit=True),
    "unit_layer": functools.partial(_by_layer, unit=True),
}
