"""What an accumulator holds of a network and its pairs, and how it grows.

Everything is stacked by groups of slots (see `plan`). Functions of arrays only.
"""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from kd_heuristics.similarity import moments, plan, views
from kd_heuristics.similarity.batching import mapped
from kd_heuristics.similarity.moments import Moments


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["shifts", "norms", "means", "own"],
    meta_fields=[],
)
@dataclasses.dataclass(frozen=True)
class Side:
    """One network's part.

    Attributes:
      shifts: what is subtracted from each layer's activations [1, ..., channels].
      norms: `views.norm` of the rest of each layer [channels].
      means: mean of the rest, for each group [slots, channels].
      own: each layer's own moments, for each group.
    """

    shifts: tuple[jax.Array, ...]
    norms: tuple[jax.Array, ...]
    means: tuple[jax.Array, ...]
    own: tuple[Moments, ...]


def empty_side(
    layout: plan.Side, shapes: plan.Shapes, conv: str, dtype: Any, higher: bool
) -> Side:
    """The side of no examples."""
    shifts, means, own = [], [], []
    norms = tuple(jnp.zeros(shape[-1], dtype) for shape in shapes)
    for shape in shapes:
        ones = jax.eval_shape(lambda x: views.shift(x, conv), _spec(shape, dtype))
        shifts.append(jnp.zeros(ones.shape, dtype))
    for group, members in enumerate(layout.groups):
        view = layout.views[members[0]]
        shape = shapes[view.layer]
        part = jax.eval_shape(
            lambda x, view=view: views.extract(view, x, conv), _spec(shape, dtype)
        )
        slots, channels = len(layout.layers(group)), shape[-1]
        means.append(jnp.zeros((slots, channels), part.dtype))
        own.append(_empty(slots, channels, channels, part.dtype, higher))
    return Side(tuple(shifts), norms, tuple(means), tuple(own))


def empty_pairs(
    layout: plan.Plan, side_a: Side, side_b: Side, higher: bool
) -> tuple[Moments, ...]:
    """The pairs of no examples, for each group of pairs."""
    out = []
    for group in layout.pair_groups:
        a, b = side_a.means[group.group_a], side_b.means[group.group_b]
        dtype = jnp.result_type(a.dtype, b.dtype)
        size = len(group.slot_a), a.shape[-1], b.shape[-1]
        out.append(_empty(*size, dtype, higher))
    return tuple(out)


def of_batch(
    layout: plan.Side,
    arrays: list[jax.Array],
    shifts: tuple[jax.Array, ...],
    mask: jax.Array,
    conv: str,
    higher: bool,
) -> tuple[Side, list[jax.Array]]:
    """The side of one batch, and its centred examples for each group of slots."""
    shifted = [
        jnp.where(mask.reshape(-1, *[1] * (x.ndim - 1)), x - shift, 0)
        for x, shift in zip(arrays, shifts, strict=True)
    ]
    norms = tuple(views.norm(x, mask.astype(x.dtype)) for x in shifted)
    means, own, examples = [], [], []
    for group, members in enumerate(layout.groups):
        chosen = [layout.views[index] for index in members]
        parts = [views.extract(view, shifted[view.layer], conv) for view in chosen]
        stack = jnp.concatenate(parts)
        weight = jnp.repeat(mask, layout.multiplicity[group])
        weight = weight.astype(jnp.finfo(stack.dtype).dtype)
        mean, centred = jax.vmap(moments.centred, (0, None))(stack, weight)
        one = partial(_own, higher=higher)
        own.append(mapped(one, centred, stack[0].size))
        means.append(mean)
        examples.append(centred)
    return Side(tuple(shifts), norms, tuple(means), tuple(own)), examples


def pairs_of_batch(
    layout: plan.Plan,
    examples_a: list[jax.Array],
    examples_b: list[jax.Array],
    higher: bool,
) -> tuple[Moments, ...]:
    """The pairs of one batch, from its centred examples."""
    out = []
    for group in layout.pair_groups:
        a, b = examples_a[group.group_a], examples_b[group.group_b]

        def one(slots, a=a, b=b):
            return moments.of_batch(a[slots[0]], b[slots[1]], higher)

        slots = jnp.asarray(group.slot_a), jnp.asarray(group.slot_b)
        out.append(mapped(one, slots, a[0].size + b[0].size))
    return tuple(out)


def shifted_to(
    layout: plan.Side,
    side: Side,
    shifts: tuple[jax.Array, ...],
    shapes: plan.Shapes,
    conv: str,
) -> Side:
    """The same side, as if `shifts` had been subtracted."""
    means = []
    for members, mean in zip(layout.groups, side.means, strict=True):
        parts = []
        for view in (layout.views[index] for index in members):
            moved = side.shifts[view.layer] - shifts[view.layer]
            parts.append(views.of_shift(view, moved, shapes[view.layer], conv))
        means.append(mean + jnp.concatenate(parts))
    return Side(tuple(shifts), side.norms, tuple(means), side.own)


def moved_to(
    layout: plan.Plan,
    count: jax.Array,
    sides: tuple[Side, Side],
    pairs: tuple[Moments, ...],
    means: tuple[tuple[jax.Array, ...], ...],
) -> tuple[tuple[tuple[Moments, ...], ...], tuple[Moments, ...]]:
    """All moments about other means: each side's own, and the pairs'."""
    moves = [
        [old - new for old, new in zip(side.means, wanted, strict=True)]
        for side, wanted in zip(sides, means, strict=True)
    ]
    traces = [[_trace(own) for own in side.own] for side in sides]
    layouts = layout.side_a, layout.side_b
    own = tuple(
        tuple(
            _moved(own, count, times, trace, trace, move, move)
            for own, times, trace, move in zip(
                side.own, one.multiplicity, trace, move, strict=True
            )
        )
        for side, one, trace, move in zip(sides, layouts, traces, moves, strict=True)
    )
    between = tuple(
        _moved(
            pair,
            count,
            layout.side_a.multiplicity[group.group_a],
            jnp.take(traces[0][group.group_a], group.slot_a, axis=0),
            jnp.take(traces[1][group.group_b], group.slot_b, axis=0),
            jnp.take(moves[0][group.group_a], group.slot_a, axis=0),
            jnp.take(moves[1][group.group_b], group.slot_b, axis=0),
        )
        for group, pair in zip(layout.pair_groups, pairs, strict=True)
    )
    return own, between


def _own(centred, higher):
    return moments.of_batch(centred, centred, higher)


def _moved(stack, examples, multiplicity, trace_a, trace_b, a, b):
    count = jnp.asarray(examples, trace_a.dtype) * multiplicity  # may exceed int32
    function = jax.vmap(moments.moved, (0, None, 0, 0, 0, 0))
    return function(stack, count, trace_a, trace_b, a, b)


def _trace(own):
    return jnp.real(jnp.trace(own.cross, axis1=1, axis2=2))


def _empty(slots, p, q, dtype, higher):
    cross = jnp.zeros((slots, p, q), dtype)
    if not higher:
        return Moments(cross)
    return Moments(
        cross,
        jnp.zeros((slots, p), dtype),
        jnp.zeros((slots, q), dtype),
        jnp.zeros((slots,), jnp.finfo(dtype).dtype),
        jnp.zeros_like(cross) if jnp.iscomplexobj(cross) else None,
    )


def _spec(shape, dtype):
    return jax.ShapeDtypeStruct((1, *shape[1:]), dtype)
