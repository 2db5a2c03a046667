"""Similarity of two networks over a data set, a batch at a time."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from kd_heuristics.compiled import as_partial
from kd_heuristics.similarity.activations import Features
from kd_heuristics.similarity.streaming import Accumulator

PyTree = Any


def stream(
    features_a: Features,
    features_b: Features | None,
    images: PyTree,
    *,
    batch_size: int = 256,
    conv: str = "dft",
    debiased: bool = False,
) -> Accumulator:
    """The accumulated moments of two networks over a data set on the device.

    One compiled loop; the activations of one batch are in memory at a time. For data
    that does not fit on the device call `Accumulator.update` with each batch.

    Args:
      features_a: `images -> {name: activations}`, as of `capture`.
      features_b: the other network's; None: the first against itself.
      images: array [examples, ...], or a pytree of such arrays, given to the functions
        in batches as it is (scale uint8 images there).
      batch_size: examples a step; each example counts exactly once.
      conv: as in `Accumulator.init`.
      debiased: as in `Accumulator.init`.

    Returns: the accumulator; `.result(measure)` is the map.

    Raises: ValueError for a batch_size under 1, and for images without examples or
    with unequal numbers of them.

    >>> x = jax.random.normal(jax.random.key(0), (50, 3))
    >>> acc = stream(lambda x: {"twice": 2 * x}, None, x, batch_size=16, conv="mean")
    >>> acc.count.item(), acc.names_a
    (50, ('twice',))
    """
    _check(images, batch_size)
    functions = as_partial(features_a), features_b and as_partial(features_b)
    size = min(batch_size, len(jax.tree.leaves(images)[0]))
    return _streamed(*functions, images, size, conv, debiased)


@partial(jax.jit, static_argnames=("size", "conv", "debiased"))
def _streamed(features_a, features_b, images, size, conv, debiased):
    total = len(jax.tree.leaves(images)[0])

    def batch(start):
        return jax.tree.map(
            lambda x: jax.lax.dynamic_slice_in_dim(x, start, size), images
        )

    def both(start):
        part = batch(start)
        return features_a(part), None if features_b is None else features_b(part)

    def step(acc, index):
        # The last batch starts early enough to be full; what was seen is masked.
        start = jnp.minimum(index * size, total - size)
        fresh = start + jnp.arange(size) >= index * size
        return acc.update(*both(start), fresh), None

    empty = Accumulator.init(*jax.eval_shape(both, 0), conv=conv, debiased=debiased)
    return jax.lax.scan(step, empty, jnp.arange(-(-total // size)))[0]


def _check(images, batch_size):
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    counts = sorted({len(leaf) for leaf in jax.tree.leaves(images)})
    if len(counts) != 1 or counts[0] == 0:
        raise ValueError(
            "images must be arrays [examples, ...] of one number of examples, at least "
            f"1; got {counts or 'no array'}"
        )
