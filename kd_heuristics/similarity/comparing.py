"""From prepared layers, or their moments, to the map."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from kd_heuristics.similarity import kernels, measures
from kd_heuristics.similarity.algebra import adjoint, matmul
from kd_heuristics.similarity.batching import mapped
from kd_heuristics.similarity.measure import Layer, Measure
from kd_heuristics.similarity.moments import Moments
from kd_heuristics.similarity.plan import Plan

# Elements of two factors from which pairs are not batched but computed row by row.
_LARGE = 2**20


class Report(NamedTuple):
    """What calls with known values look at before they return; see `checks.look`."""

    finite: tuple[jax.Array, jax.Array]  # of each side [layers]
    # Layers, ranks and number of examples of the compared slots of each group.
    pairs: list[tuple[Any, ...]]


def all_pairs(
    kind: Measure,
    layout: Plan,
    stacks_a: list[Layer],
    stacks_b: list[Layer],
    examples: Any,
    crosses: tuple[Moments, ...] | None = None,
    mesh: jax.sharding.Mesh | None = None,
) -> tuple[jax.Array, Report]:
    """The map [layers_a, layers_b], NaN where a layer is not finite.

    Args:
      kind: measure.
      layout: what is compared.
      stacks_a: prepared layers, a stack for each group of slots.
      stacks_b: those of the other side.
      examples: their number.
      crosses: moments of the pairs, a stack for each group, where the layers were
        prepared from moments; None: from examples.
      mesh: devices that share the pairs out.
    """
    finite = _finite(layout.side_a, stacks_a), _finite(layout.side_b, stacks_b)
    dtype = jnp.result_type(*(stack.rank.dtype for stack in (*stacks_a, *stacks_b)))
    value, looked = jnp.zeros((len(finite[0]), len(finite[1])), dtype), []
    for index, group in enumerate(layout.pair_groups):
        stack_a, stack_b = stacks_a[group.group_a], stacks_b[group.group_b]
        cross = None if crosses is None else crosses[index]
        slots = jnp.asarray(group.slot_a), jnp.asarray(group.slot_b)
        elements = stack_a.factor[0].size + stack_b.factor[0].size

        if kind.by_examples:
            values = _inner_products(stack_a, stack_b, *slots, kind)
            values *= jnp.asarray(group.weight, dtype)
            value = value.at[group.layer_a, group.layer_b].add(values.astype(dtype))
            continue

        every = len(group.slot_a) == len(stack_a.rank) * len(stack_b.rank)
        if cross is None and mesh is None and every and elements >= _LARGE:
            values = _by_rows(kind, stack_a, stack_b)[slots]
            values *= jnp.asarray(group.weight, dtype)
            value = value.at[group.layer_a, group.layer_b].add(values.astype(dtype))
            looked.append(_looked(group, stack_a, stack_b, examples, layout, dtype))
            continue

        def one(item, stack_a, stack_b):
            (slot_a, slot_b), cross = item
            a = jax.tree.map(lambda leaf: leaf[slot_a], stack_a)
            b = jax.tree.map(lambda leaf: leaf[slot_b], stack_b)
            return _one(kind, a, b, cross)

        values = jnp.asarray(group.weight, dtype) * mapped(
            one, (slots, cross), elements, stack_a, stack_b, mesh=mesh
        )
        value = value.at[group.layer_a, group.layer_b].add(values.astype(dtype))
        looked.append(_looked(group, stack_a, stack_b, examples, layout, dtype))
    return value, Report(finite, looked)


def _looked(group, stack_a, stack_b, examples, layout, dtype):
    # A float: with positions as examples it may exceed int32.
    count = jnp.asarray(examples, dtype) * layout.side_a.multiplicity[group.group_a]
    ranks = stack_a.rank[group.slot_a], stack_b.rank[group.slot_b]
    return group.layer_a, group.layer_b, *ranks, count


def _by_rows(kind, stack_a, stack_b):
    """All against all [a, b]: one product for each layer of the first stack.

    The second stack's factors lie side by side, so that no layer is cut out or copied
    for a pair.
    """
    count, n, q = stack_b.factor.shape
    wide = jnp.swapaxes(stack_b.factor, 0, 1).reshape(n, count * q)
    rest = stack_b._replace(factor=stack_b.rank)  # a comparison needs no factor

    def row(a):
        crosses = matmul(adjoint(a.factor), wide).reshape(-1, count, q)
        crosses = jnp.swapaxes(crosses, 0, 1)
        return jax.lax.map(
            lambda pair: measures.compare(kind, pair[0], a, pair[1]), (crosses, rest)
        )

    return jax.lax.map(row, stack_a)


def _finite(side, stacks):
    finite = jnp.ones(1 + max(view.layer for view in side.views), bool)
    for group, stack in enumerate(stacks):
        finite = finite.at[side.layers(group)].min(stack.finite)
    return finite


def _inner_products(stack_a, stack_b, slots_a, slots_b, kind):
    """Similarities of the pairs whose layers are columns [n * n, slots]; see `kernels`.

    Every layer is read once, not once a pair, if most pairs are wanted.
    """
    a, b = jnp.conj(stack_a.factor), stack_b.factor
    if 2 * len(slots_a) >= a.shape[1] * b.shape[1]:
        products = matmul(a.T, b)[slots_a, slots_b]
    else:
        products = jax.lax.map(
            lambda pair: jnp.sum(a[:, pair[0]] * b[:, pair[1]]), (slots_a, slots_b)
        )
    value = kernels.similarity(products, kind)
    return jnp.where(stack_a.finite[slots_a] & stack_b.finite[slots_b], value, jnp.nan)


def _one(kind, a, b, cross):
    if cross is None:
        return measures.compare(kind, matmul(adjoint(a.factor), b.factor), a, b)
    product = matmul(matmul(adjoint(a.factor), cross.cross), b.factor)
    return measures.compare(kind, product, a, b, cross.fourth)
