"""Moments of batches, and of all batches together, as trees of "mean" and "var"."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

PyTree = Any


def own_moments(train, batch_stats, batch, params):
    """`batch -> the batch's own moments`, whatever the momentum m; and `batch`'s.

    New statistics are m * old + (1 - m) * the batch's: from old = 0, (1 - m) times the
    batch's. What a large old adds is m of it. Differentiation would tell m, too, but
    NNX stops the gradient.

    Args:
      train: `(params, batch_stats, batch) -> batch_stats`.
      batch_stats: of any network alike.
      batch: on which m is found; XLA merges the two passes.
      params: the network's.
    """

    def new(old, batch):
        stats = train(params, _with_moving(batch_stats, old), batch)
        return _moving_like(batch_stats, stats)

    def without_momentum(new):
        own = [x / (1 - m) for x, m in zip(new, momenta, strict=True)]
        return _with_moving(batch_stats, own)

    zeros = jax.tree.map(jnp.zeros_like, _moving(batch_stats))
    large = [jnp.full_like(x, float(jnp.finfo(x.dtype).max) ** 0.5) for x in zeros]
    from_zero, from_large = new(zeros, batch), new(large, batch)
    momenta = [
        (y - x) / old for x, y, old in zip(from_zero, from_large, large, strict=True)
    ]
    return lambda batch: without_momentum(new(zeros, batch)), without_momentum(
        from_zero
    )


def moments_of_all(moments, like, parts, pool, first=None):
    """The moments of all batches of all parts together, as a tree like `like`.

    Args:
      moments: `batch -> tree like `like``, of a batch.
      like: batch statistics.
      parts: batches of equal size in each, [num_batches, batch, ...].
      pool: whether what lies between the batches' means enters the variance.
      first: the moments of the first batch, where they are known.
    """
    pairs = mean_of(like)
    carry = (jnp.int32(0), jax.tree.map(jnp.zeros_like, _moving(like)))
    for number, part in enumerate(parts):
        count, size = jax.tree.leaves(part)[0].shape[:2]
        known = number == 0 and first is not None
        if known:
            carry = _merged(carry, size, _moving_like(like, first), pairs, pool)

        def add(index, carry, part=part, size=size):
            batch = jax.tree.map(lambda x: x[index], part)
            return _merged(carry, size, _moving_like(like, moments(batch)), pairs, pool)

        if count > known:
            carry = jax.lax.fori_loop(int(known), count, add, carry)
    return _with_moving(like, carry[1])


def _merged(carry, size, other, pairs, pool):
    """The moments of the examples so far and of `size` more.

    Merged batch by batch, not summed: squares of large means would cancel in float32.
    """
    done, total = carry
    share = size / (done + size)
    merged = []
    for place, (x, y) in enumerate(zip(total, other, strict=True)):
        weight = share.astype(x.dtype)
        new = x + weight * (y - x)
        if pool and place in pairs:
            apart = other[pairs[place]] - total[pairs[place]]
            new = new + weight * (1 - weight) * jnp.square(apart)
        merged.append(new)
    return done + size, merged


def mean_of(stats) -> dict[int, int]:
    """Which of the floating-point leaves is the mean of which variance, by place."""
    paths = [
        [jax.tree_util.keystr((key,), simple=True) for key in path]
        for path, leaf in jax.tree_util.tree_leaves_with_path(stats)
        if _is_inexact(leaf)
    ]
    if not paths:
        raise ValueError(
            "batch_stats holds no statistics to re-estimate: give those of any network "
            "alike, or leave refresh_stats out where the model has no batch norm"
        )
    places = {tuple(path): place for place, path in enumerate(paths)}
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
    """The whole batches, stacked, and each incomplete one, [1, its examples, ...].

    A batch-norm layer sees every example that it is given, so padding is cut away.
    """
    mask = batches.get("mask") if isinstance(batches, dict) else None
    if mask is None:
        return [batches]
    mask = np.asarray(mask)
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
    """The floating-point leaves: the means and variances."""
    return [jnp.asarray(leaf) for leaf in jax.tree.leaves(stats) if _is_inexact(leaf)]


def _moving_like(like, stats) -> list:
    """The floating-point leaves of a tree that a caller's function has made."""
    shapes = [[leaf.shape for leaf in _moving(tree)] for tree in (like, stats)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            "a function that re-estimates statistics must return a tree like "
            f"batch_stats, which has leaves of shapes {shapes[0]}; got {shapes[1]}"
        )
    return _moving(stats)


def _with_moving(stats, moving):
    """The tree with other floating-point leaves."""
    leaves, structure = jax.tree.flatten(stats)
    given = iter(moving)
    return structure.unflatten(
        next(given) if _is_inexact(leaf) else leaf for leaf in leaves
    )
