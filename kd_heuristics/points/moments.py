"""Moments of single batches and of all batches, as trees of "mean" and "var"."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kd_heuristics.points import equinox
from kd_heuristics.pytrees import leaf_names
from kd_heuristics.runtime import parallel
from kd_heuristics.runtime.precision import common_type

PyTree = Any


def own_moments(train, batch_stats, params):
    """Returns `batch -> the batch's own moments`, for any momentum m.

    New statistics are m * old + (1 - m) * own. With old = 0 they are (1 - m) * own; a
    large old adds m * old, which reveals m. Under vmap over the two values of old, the
    network's pass, which does not depend on them, is computed once. (The derivative
    would also reveal m, but NNX stops the gradient.)
    """

    def new(old, batch):
        stats = train(params, _with_moving(batch_stats, old), batch)
        return _moving_like(batch_stats, stats)

    large = [float(jnp.finfo(x.dtype).max) ** 0.5 for x in _moving(batch_stats)]
    probes = [
        jnp.stack([x, x + value])
        for x, value in zip(_zeros(batch_stats), large, strict=True)
    ]

    def own(batch):
        found = jax.vmap(new, in_axes=(0, None))(probes, batch)
        momenta = [(x[1] - x[0]) / old for x, old in zip(found, large, strict=True)]
        return _with_moving(
            batch_stats, [x[0] / (1 - m) for x, m in zip(found, momenta, strict=True)]
        )

    return own


def moments_of_all(moments, like, parts, pool):
    """Returns the moments over all batches of all parts, as a tree like `like`.

    Args:
      moments: `batch -> tree like `like``, the moments of one batch.
      like: batch statistics.
      parts: arrays [num_batches, batch, ...]; the batches of a part have equal sizes.
      pool: whether the spread of the batches' means enters the variance.
    """
    pairs = mean_of(like)

    def add(carry, batch):
        size = jax.tree.leaves(batch)[0].shape[0]
        other = _cast(_moving_like(like, moments(batch)), carry[1])
        return _merged(carry, size, other, pairs, pool), None

    carry = (jnp.int32(0), _zeros(like))
    for part in parts:
        carry, _ = jax.lax.scan(add, carry, part)
    return _with_moving(like, _cast(carry[1], _moving(like)))


def _merged(carry, size, other, pairs, pool):
    """Merge the moments of the examples so far with those of `size` more.

    Sums of squares are avoided, because those of large means cancel in float32.
    """
    done, total = carry
    merged = []
    for place, (x, y) in enumerate(zip(total, other, strict=True)):
        weight = size / (done + size).astype(x.dtype)
        new = x + weight * (y - x)
        if pool and place in pairs:
            apart = other[pairs[place]] - total[pairs[place]]
            new = new + weight * (1 - weight) * jnp.square(apart)
        merged.append(new)
    return done + size, merged


def mean_of(stats) -> dict[int, int]:
    """Map the position of each variance among the floating leaves to its mean's."""
    paths = [
        equinox.named(leaf_names.keys_of(path))
        for path, leaf in jax.tree_util.tree_leaves_with_path(stats)
        if _is_inexact(leaf)
    ]
    if not paths:
        raise ValueError(
            "batch_stats holds no statistics to re-estimate: give those of a network "
            "of the same model, or omit refresh_stats if the model has no batch norm"
        )
    places = {path: place for place, path in enumerate(paths)}
    pairs = {}
    for path, place in places.items():
        names = [key for key in path if key in ("mean", "var")]
        sibling = tuple(_OTHER.get(key, key) for key in path)
        if len(names) != 1 or sibling not in places:
            raise ValueError(
                'batch_stats must have leaves named "mean" and "var" in pairs, got '
                f"{'/'.join(path)!r}; rename them in a dictionary"
            )
        if names == ["var"]:
            pairs[place] = places[sibling]
    return pairs


_OTHER = {"mean": "var", "var": "mean"}


def without_padding(batches):
    """Returns the full batches, stacked, and each incomplete one, [1, examples, ...].

    A batch-norm layer uses every example it is given, so padding is cut away.
    """
    mask = batches.get("mask") if isinstance(batches, dict) else None
    if mask is None:
        return [batches]
    mask = parallel.to_host(mask)
    whole = np.flatnonzero(mask.all(axis=1))
    parts = []
    if len(whole):
        every = len(whole) == len(mask)
        parts.append(batches if every else jax.tree.map(lambda x: x[whole], batches))
    for index in np.flatnonzero(mask.any(axis=1) & ~mask.all(axis=1)):
        kept = np.flatnonzero(mask[index])
        parts.append(jax.tree.map(lambda x, i=index, k=kept: x[i][k][None], batches))
    if not parts:
        raise ValueError("there is no example: the mask is false everywhere")
    return parts


def _is_inexact(leaf) -> bool:
    return jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)


def _moving(stats) -> list:
    """Returns the floating-point leaves: the means and variances."""
    return [jnp.asarray(leaf) for leaf in jax.tree.leaves(stats) if _is_inexact(leaf)]


def _zeros(stats) -> list:
    """Returns zeros of the floating-point leaves' shapes, in at least float32."""
    return [
        jnp.zeros(x.shape, common_type(x.dtype, jnp.float32)) for x in _moving(stats)
    ]


def _cast(arrays, like) -> list:
    """Cast each array to the type of its counterpart in `like`."""
    return [x.astype(y.dtype) for x, y in zip(arrays, like, strict=True)]


def _moving_like(like, stats) -> list:
    """Returns the floating-point leaves of a caller's tree; raise if shapes differ."""
    shapes = [[leaf.shape for leaf in _moving(tree)] for tree in (like, stats)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            "a function that re-estimates statistics must return a tree like "
            f"batch_stats, which has leaves of shapes {shapes[0]}; got {shapes[1]}"
        )
    return _moving(stats)


def _with_moving(stats, moving):
    """Replace the floating-point leaves of a tree."""
    leaves, structure = jax.tree.flatten(stats)
    given = iter(moving)
    return structure.unflatten(
        next(given) if _is_inexact(leaf) else leaf for leaf in leaves
    )
