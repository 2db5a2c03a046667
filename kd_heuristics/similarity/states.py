"""How an accumulator grows, merges, and becomes a map.

`acc` is an `Accumulator` throughout; this is its arithmetic, in compiled functions.
"""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from kd_heuristics.similarity import comparing, measures, sides, views
from kd_heuristics.similarity.batching import mapped
from kd_heuristics.similarity.measure import Measure


@jax.jit
def updated(
    acc: Any, a: list[jax.Array], b: list[jax.Array] | None, mask: jax.Array
) -> tuple[Any, jax.Array]:
    """The accumulator with a batch, and which layers were finite where it counts."""
    layout = acc.layout
    finite = jnp.stack(
        [
            jnp.all(jnp.isfinite(x).reshape(len(x), -1).all(axis=1) | ~mask)
            for x in (*a, *(() if b is None else b))
        ]
    )
    first = jnp.argmax(mask)

    def batch_side(one, side, arrays):
        # The first example ever seen is the shift, for good.
        shifts = tuple(
            jnp.where(acc.count > 0, old, views.shift(x, acc.conv, first))
            for old, x in zip(side.shifts, arrays, strict=True)
        )
        return sides.of_batch(one, arrays, shifts, mask, acc.conv, acc.higher)

    side_a, examples_a = batch_side(layout.side_a, acc.side_a, a)
    side_b, examples_b = None, examples_a
    if b is not None:
        side_b, examples_b = batch_side(layout.side_b, acc.side_b, b)
    pairs = sides.pairs_of_batch(layout, examples_a, examples_b, acc.higher)
    count = jnp.sum(mask, dtype=jnp.int32)
    batch = dataclasses.replace(
        acc, count=count, side_a=side_a, side_b=side_b, pairs=pairs
    )
    return merged(acc, batch), finite


@jax.jit
def merged(one: Any, other: Any) -> Any:
    """The accumulator of the examples of both (Chan et al. 1983, eq. 2.1)."""
    layout = one.layout
    count = one.count + other.count
    share = other.count / jnp.maximum(count, 1)
    both = [_aligned(layout, acc, one, other) for acc in (one, other)]
    means = tuple(
        tuple(
            p + (q - p) * share.astype(jnp.finfo(p.dtype).dtype)
            for p, q in zip(x.means, y.means, strict=True)
        )
        for x, y in zip(*both, strict=True)
    )
    norms = [
        tuple(
            jnp.hypot(p * jnp.sqrt(1 - share), q * jnp.sqrt(share)).astype(p.dtype)
            for p, q in zip(x.norms, y.norms, strict=True)
        )
        for x, y in zip(*both, strict=True)
    ]
    moved = [
        sides.moved_to(layout, acc.count, pair, acc.pairs, means)
        for acc, pair in zip((one, other), both, strict=True)
    ]
    (own_a, own_b), pairs = jax.tree.map(jnp.add, *moved)
    side_a = sides.Side(both[0][0].shifts, norms[0], means[0], own_a)
    side_b = sides.Side(both[0][1].shifts, norms[1], means[1], own_b)
    if one.side_b is None:
        side_b = None
    return dataclasses.replace(
        one, count=count, side_a=side_a, side_b=side_b, pairs=pairs
    )


def _aligned(layout, acc, one, other):
    """Both sides of `acc` with the shift of `one`, or of `other` if `one` is empty."""

    def align(part, shapes, side, first, second):
        shifts = tuple(
            jnp.where(one.count > 0, p, q)
            for p, q in zip(first.shifts, second.shifts, strict=True)
        )
        return sides.shifted_to(part, side, shapes=shapes, shifts=shifts, conv=acc.conv)

    a = align(layout.side_a, acc.shapes_a, acc.side_a, one.side_a, other.side_a)
    if acc.side_b is None:
        return a, a
    return a, align(layout.side_b, acc.shapes_b, acc.side_b, one.side_b, other.side_b)


@partial(jax.jit, static_argnames=("kind", "mesh"))
def result(
    acc: Any, kind: Measure, mesh: jax.sharding.Mesh | None = None
) -> tuple[jax.Array, comparing.Report]:
    """The map, and what is to be looked at."""
    layout, how = acc.layout, (kind, acc.conv, mesh)
    a, b = (acc.side_a, acc.shapes_a), (acc.side_b, acc.shapes_b)
    stacks_a = stacks_b = _prepared(acc.count, layout.side_a, *a, *how)
    if acc.side_b is not None:
        stacks_b = _prepared(acc.count, layout.side_b, *b, *how)
    stacks = stacks_a, stacks_b
    return comparing.all_pairs(kind, layout, *stacks, acc.count, acc.pairs, mesh)


def _prepared(examples, layout, side, shapes, kind, conv, mesh):
    levels = [views.level(shift) for shift in side.shifts]
    stacks = []
    for group, own in enumerate(side.own):
        chosen = [layout.views[index] for index in layout.groups[group]]
        noise = views.rounding(chosen, shapes, levels, side.norms, conv)
        # Not in int32, which ends at 42,799 maps of 224 x 224 positions.
        count = jnp.asarray(examples, noise.dtype) * layout.multiplicity[group]

        def one(item, count):
            own, noise = item
            return measures.prepare_moments(kind, own.cross, noise, count, own.fourth)

        stacks.append(mapped(one, (own, noise), own.cross[0].size, count, mesh=mesh))
    return stacks


def folded(everyone: Any) -> Any:
    """One accumulator of those stacked along the first axis."""
    first = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), everyone)
    rest = jax.tree.map(lambda leaf: jnp.asarray(leaf[1:]), everyone)
    return jax.lax.scan(lambda acc, one: (merged(acc, one), None), first, rest)[0]
