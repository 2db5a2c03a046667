"""From prepared layers, or their moments, to the similarity map."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from kd_heuristics.runtime import parallel
from kd_heuristics.similarity import factors, kernels
from kd_heuristics.similarity.algebra import adjoint, matmul
from kd_heuristics.similarity.measure import Measure, PreparedLayer
from kd_heuristics.similarity.moments import Moments
from kd_heuristics.similarity.slots import Layout

# Elements that one batch may hold: enough to run small matrices together, and few
# compared with the activations.
_BATCH_ELEMENTS = 2**22
# Elements of two factors from which pairs run row by row instead of batched.
_LARGE = 2**20


class Report(NamedTuple):
    """What a call with concrete values checks before it returns; see `calls.look`."""

    finite: tuple[jax.Array, jax.Array]  # for each side [layers]
    # For each group: layers, ranks and number of examples of the compared slots.
    pairs: list[tuple[Any, ...]]


def all_pairs(
    kind: Measure,
    layout: Layout,
    stacks_a: list[PreparedLayer],
    stacks_b: list[PreparedLayer],
    examples: Any,
    crosses: tuple[Moments, ...] | None = None,
    mesh: jax.sharding.Mesh | None = None,
) -> tuple[jax.Array, Report]:
    """The map [layers_a, layers_b]; NaN for layers that are not finite.

    Args:
      kind: measure.
      layout: what is compared.
      stacks_a: prepared layers, one stack for each group of slots.
      stacks_b: those of the other side.
      examples: number of examples.
      crosses: moments of the pairs, one stack for each group, if the layers were
        prepared from moments; `None` if from examples.
      mesh: devices that share the pairs.
    """
    finite = _finite(layout.groups_a, stacks_a), _finite(layout.groups_b, stacks_b)
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


def mapped(
    function: Callable[..., Any],
    items: Any,
    elements: int,
    *shared: Any,
    mesh: jax.sharding.Mesh | None = None,
) -> Any:
    """Map `function` over the leading axis of a pytree, in batches that fit in memory.

    Args:
      function: called as `function(item, *shared)` on one item.
      items: arrays [count, ...].
      elements: array elements that one call of `function` holds in memory.
      *shared: arrays that all items share.
      mesh: devices that share the items; `None` keeps the arrays where they are.
    """
    count = jax.tree.leaves(items)[0].shape[0]
    if mesh is not None and count > 1:
        return parallel.by_parts(
            lambda part, *shared: mapped(function, part, elements, *shared),
            items,
            mesh,
            *shared,
        )

    def of(item):
        return function(item, *shared)

    batch = max(_BATCH_ELEMENTS // max(elements, 1), 1)
    if count == 1:
        one = of(jax.tree.map(lambda leaf: leaf[0], items))
        return jax.tree.map(lambda leaf: leaf[None], one)
    if count <= batch:
        return jax.vmap(of)(items)
    return jax.lax.map(of, items, batch_size=batch if batch > 1 else None)


def _looked(group, stack_a, stack_b, examples, layout, dtype):
    """One group's part of the report."""
    # A float: with positions as examples the count may exceed int32.
    count = jnp.asarray(examples, dtype) * layout.groups_a[group.group_a].multiplicity
    ranks = stack_a.rank[group.slot_a], stack_b.rank[group.slot_b]
    return group.layer_a, group.layer_b, *ranks, count


def _by_rows(kind, stack_a, stack_b):
    """Compare all with all [a, b], by one product for each layer of the first stack.

    The second stack's factors lie side by side, so no layer is copied for a pair.
    """
    count, n, q = stack_b.factor.shape
    wide = jnp.swapaxes(stack_b.factor, 0, 1).reshape(n, count * q)
    rest = stack_b._replace(factor=stack_b.rank)  # a comparison needs no factor

    def row(a):
        crosses = matmul(adjoint(a.factor), wide).reshape(-1, count, q)
        crosses = jnp.swapaxes(crosses, 0, 1)
        return jax.lax.map(
            lambda pair: factors.compare(kind, pair[0], a, pair[1]), (crosses, rest)
        )

    return jax.lax.map(row, stack_a)


def _finite(groups, stacks):
    """Whether all slots of each layer are finite [layers]."""
    finite = jnp.ones(1 + max(group.layers.max() for group in groups), bool)
    for group, stack in zip(groups, stacks, strict=True):
        finite = finite.at[group.layers].min(stack.finite)
    return finite


def _inner_products(stack_a, stack_b, slots_a, slots_b, kind):
    """Similarity of pairs whose layers are columns [n * n, slots]; see `kernels`.

    If most pairs are wanted, each layer is read once rather than once for each pair.
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
    """Compare two layers by their factors, and their moments if they were streamed."""
    if cross is None:
        return factors.compare(kind, matmul(adjoint(a.factor), b.factor), a, b)
    product = matmul(matmul(adjoint(a.factor), cross.cross), b.factor)
    return factors.compare(kind, product, a, b, cross.fourth)
