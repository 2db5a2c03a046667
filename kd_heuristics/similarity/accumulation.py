"""An accumulator's arithmetic: how it grows, merges and becomes a map.

`acc` is an `Accumulator` throughout. Moments are stacked by groups of slots (`slots`).
"""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from kd_heuristics.similarity import comparing, factors, moments, positions, slots
from kd_heuristics.similarity.comparing import mapped
from kd_heuristics.similarity.measure import Measure
from kd_heuristics.similarity.moments import Moments
from kd_heuristics.similarity.slots import Layout, SlotGroup


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["shifts", "norms", "means", "own"],
    meta_fields=[],
)
@dataclasses.dataclass(frozen=True)
class NetworkMoments:
    """What an accumulator holds of one network.

    Attributes:
      shifts: what is subtracted from each layer's activations [1, ..., channels].
      norms: `positions.norm` of each layer's shifted activations [channels].
      means: mean of the shifted activations, for each group [slots, channels].
      own: moments of each layer with itself, for each group.
    """

    shifts: tuple[jax.Array, ...]
    norms: tuple[jax.Array, ...]
    means: tuple[jax.Array, ...]
    own: tuple[Moments, ...]


def empty(
    groups: tuple[SlotGroup, ...],
    shapes: slots.Shapes,
    conv: str,
    dtype: Any,
    higher: bool,
) -> NetworkMoments:
    """A network's moments over no examples."""
    specs = [jax.ShapeDtypeStruct((1, *shape[1:]), dtype) for shape in shapes]
    shifts = [jax.eval_shape(lambda x: positions.shift(x, conv), x) for x in specs]
    means = []
    for group in groups:
        view = group.views[0]
        part = jax.eval_shape(
            lambda x, view=view: positions.extract(view, x, conv), specs[view.layer]
        )
        means.append(jnp.zeros((len(group.layers), part.shape[-1]), part.dtype))
    return NetworkMoments(
        tuple(jnp.zeros(shift.shape, dtype) for shift in shifts),
        tuple(jnp.zeros(shape[-1], dtype) for shape in shapes),
        tuple(means),
        tuple(_zeros(len(x), x.shape[1], x.shape[1], x.dtype, higher) for x in means),
    )


def empty_pairs(
    layout: Layout, a: NetworkMoments, b: NetworkMoments, higher: bool
) -> tuple[Moments, ...]:
    """Moments of the pairs over no examples, for each group of pairs."""
    out = []
    for group in layout.pair_groups:
        x, y = a.means[group.group_a], b.means[group.group_b]
        size = len(group.slot_a), x.shape[-1], y.shape[-1]
        out.append(_zeros(*size, jnp.result_type(x.dtype, y.dtype), higher))
    return tuple(out)


@jax.jit
def updated(
    acc: Any, a: list[jax.Array], b: list[jax.Array] | None, mask: jax.Array
) -> tuple[Any, jax.Array]:
    """The accumulator with a batch added, and which layers were finite in its rows."""
    finite = jnp.stack(
        [
            jnp.all(jnp.isfinite(x).reshape(len(x), -1).all(axis=1) | ~mask)
            for x in (*a, *(() if b is None else b))
        ]
    )
    first = jnp.argmax(mask)

    def of_batch(groups, network, arrays):
        # The first example ever seen stays the shift.
        shifts = tuple(
            jnp.where(acc.count > 0, old, positions.shift(x, acc.conv, first))
            for old, x in zip(network.shifts, arrays, strict=True)
        )
        return _of_batch(groups, arrays, shifts, mask, acc.conv, acc.higher)

    side_a, examples_a = of_batch(acc.layout.groups_a, acc.side_a, a)
    side_b, examples_b = None, examples_a
    if b is not None:
        side_b, examples_b = of_batch(acc.layout.groups_b, acc.side_b, b)
    pairs = _pairs_of_batch(acc.layout, examples_a, examples_b, acc.higher)
    count = jnp.sum(mask, dtype=jnp.int32)
    batch = dataclasses.replace(
        acc, count=count, side_a=side_a, side_b=side_b, pairs=pairs
    )
    return merged(acc, batch), finite


@jax.jit
def merged(one: Any, other: Any) -> Any:
    """The accumulator of the examples of both (Chan et al. 1983, eq. 2.1)."""
    count = one.count + other.count
    share = other.count / jnp.maximum(count, 1)
    both = [_aligned(acc, one, other) for acc in (one, other)]

    def mean(p, q):
        return p + (q - p) * share.astype(jnp.finfo(p.dtype).dtype)

    def norm(p, q):
        return jnp.hypot(p * jnp.sqrt(1 - share), q * jnp.sqrt(share)).astype(p.dtype)

    means = [jax.tree.map(mean, x.means, y.means) for x, y in zip(*both, strict=True)]
    norms = [jax.tree.map(norm, x.norms, y.norms) for x, y in zip(*both, strict=True)]
    moved = [
        _moved_to(acc, networks, means)
        for acc, networks in zip((one, other), both, strict=True)
    ]
    own, pairs = jax.tree.map(jnp.add, *moved)
    side_a, side_b = (
        NetworkMoments(network.shifts, *parts)
        for network, *parts in zip(both[0], norms, means, own, strict=True)
    )
    if one.side_b is None:
        side_b = None
    return dataclasses.replace(
        one, count=count, side_a=side_a, side_b=side_b, pairs=pairs
    )


@partial(jax.jit, static_argnames=("kind", "mesh"))
def result(
    acc: Any, kind: Measure, mesh: jax.sharding.Mesh | None = None
) -> tuple[jax.Array, comparing.Report]:
    """The map, and the report that `calls.look` reads."""
    layout, how = acc.layout, (kind, acc.conv, mesh)
    stacks_a = stacks_b = _prepared(
        acc.count, layout.groups_a, acc.side_a, acc.shapes_a, *how
    )
    if acc.side_b is not None:
        stacks_b = _prepared(acc.count, layout.groups_b, acc.side_b, acc.shapes_b, *how)
    return comparing.all_pairs(
        kind, layout, stacks_a, stacks_b, acc.count, acc.pairs, mesh
    )


def folded(everyone: Any) -> Any:
    """Merges accumulators stacked along the first axis into one."""
    first = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), everyone)
    rest = jax.tree.map(lambda leaf: jnp.asarray(leaf[1:]), everyone)
    return jax.lax.scan(lambda acc, one: (merged(acc, one), None), first, rest)[0]


def _of_batch(groups, arrays, shifts, mask, conv, higher):
    """A network's moments over one batch, and its centred examples by group."""
    shifted = [
        jnp.where(mask.reshape(-1, *[1] * (x.ndim - 1)), x - shift, 0)
        for x, shift in zip(arrays, shifts, strict=True)
    ]
    norms = tuple(positions.norm(x, mask.astype(x.dtype)) for x in shifted)
    means, own, examples = [], [], []
    for group in groups:
        stack = jnp.concatenate(
            [positions.extract(view, shifted[view.layer], conv) for view in group.views]
        )
        weight = jnp.repeat(mask, group.multiplicity)
        weight = weight.astype(jnp.finfo(stack.dtype).dtype)
        mean, centred = jax.vmap(moments.centred, (0, None))(stack, weight)
        one = partial(_own, higher=higher)
        own.append(mapped(one, centred, stack[0].size))
        means.append(mean)
        examples.append(centred)
    return NetworkMoments(tuple(shifts), norms, tuple(means), tuple(own)), examples


def _pairs_of_batch(layout, examples_a, examples_b, higher):
    """Moments of the pairs over one batch, from its centred examples."""
    out = []
    for group in layout.pair_groups:
        a, b = examples_a[group.group_a], examples_b[group.group_b]

        def one(pair, a=a, b=b):
            return moments.of_batch(a[pair[0]], b[pair[1]], higher)

        pairs = jnp.asarray(group.slot_a), jnp.asarray(group.slot_b)
        out.append(mapped(one, pairs, a[0].size + b[0].size))
    return tuple(out)


def _own(centred, higher):
    return moments.of_batch(centred, centred, higher)


def _aligned(acc, one, other):
    """Both networks of `acc` with the shifts of `one`, or of `other` if it is empty."""

    def align(groups, shapes, network, first, second):
        shifts = tuple(
            jnp.where(one.count > 0, p, q)
            for p, q in zip(first.shifts, second.shifts, strict=True)
        )
        means = []
        for group, mean in zip(groups, network.means, strict=True):
            parts = []
            for view in group.views:
                moved = network.shifts[view.layer] - shifts[view.layer]
                shape = shapes[view.layer]
                parts.append(positions.of_shift(view, moved, shape, acc.conv))
            means.append(mean + jnp.concatenate(parts))
        return dataclasses.replace(network, shifts=shifts, means=tuple(means))

    layout = acc.layout
    a = align(layout.groups_a, acc.shapes_a, acc.side_a, one.side_a, other.side_a)
    if acc.side_b is None:
        return a, a
    return a, align(layout.groups_b, acc.shapes_b, acc.side_b, one.side_b, other.side_b)


def _moved_to(acc, networks, means):
    """All moments of `acc` about other means: each network's own, and the pairs'."""
    layout = acc.layout
    moves = [
        [old - new for old, new in zip(network.means, wanted, strict=True)]
        for network, wanted in zip(networks, means, strict=True)
    ]
    traces = [[_trace(own) for own in network.own] for network in networks]
    own = tuple(
        tuple(
            _moved(one, acc.count, group.multiplicity, trace, trace, move, move)
            for one, group, trace, move in zip(network.own, *rest, strict=True)
        )
        for network, *rest in zip(
            networks, (layout.groups_a, layout.groups_b), traces, moves, strict=True
        )
    )
    pairs = tuple(
        _moved(
            pair,
            acc.count,
            layout.groups_a[group.group_a].multiplicity,
            jnp.take(traces[0][group.group_a], group.slot_a, axis=0),
            jnp.take(traces[1][group.group_b], group.slot_b, axis=0),
            jnp.take(moves[0][group.group_a], group.slot_a, axis=0),
            jnp.take(moves[1][group.group_b], group.slot_b, axis=0),
        )
        for group, pair in zip(layout.pair_groups, acc.pairs, strict=True)
    )
    return own, pairs


def _moved(stack, examples, multiplicity, trace_a, trace_b, a, b):
    """`moments.moved` for a stack of slots."""
    count = jnp.asarray(examples, trace_a.dtype) * multiplicity  # may exceed int32
    function = jax.vmap(moments.moved, (0, None, 0, 0, 0, 0))
    return function(stack, count, trace_a, trace_b, a, b)


def _trace(own):
    return jnp.real(jnp.trace(own.cross, axis1=1, axis2=2))


def _zeros(slots, p, q, dtype, higher):
    """Moments of `slots` pairs of p and q units over no examples."""
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


def _prepared(examples, groups, network, shapes, kind, conv, mesh):
    """A network's prepared layers, one stack for each group, from its moments."""
    levels = [positions.level(shift) for shift in network.shifts]
    stacks = []
    for group, own in zip(groups, network.own, strict=True):
        noise = positions.rounding(group.views, shapes, levels, network.norms, conv)
        # int32 would end at 42,799 maps of 224 x 224 positions.
        count = jnp.asarray(examples, noise.dtype) * group.multiplicity

        def one(item, count):
            own, noise = item
            return factors.prepare_moments(kind, own.cross, noise, count, own.fourth)

        stacks.append(mapped(one, (own, noise), own.cross[0].size, count, mesh=mesh))
    return stacks
