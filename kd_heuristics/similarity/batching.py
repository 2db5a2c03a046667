"""Batched where it is cheap, one after another where a batch would not fit."""

from collections.abc import Callable
from typing import Any

import jax

from kd_heuristics.runtime import parallel

# Elements that one batch may hold: enough to keep small matrices busy together, and
# little beside the activations themselves.
_BATCH_ELEMENTS = 2**22


def mapped(
    function: Callable[..., Any],
    items: Any,
    elements: int,
    *shared: Any,
    mesh: jax.sharding.Mesh | None = None,
) -> Any:
    """`function` over the leading axis of a pytree of arrays, in batches.

    Args:
      function: `(item, *shared)`, of one item.
      items: arrays [count, ...].
      elements: what one call of `function` holds in memory, in array elements.
      *shared: arrays of all items.
      mesh: devices that share the items out; None: all are where they lie.
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
