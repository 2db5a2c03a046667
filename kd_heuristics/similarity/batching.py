"""Batched where it is cheap, one after another where a batch would not fit."""

from collections.abc import Callable
from typing import Any

import jax

# Elements that one batch may hold: enough to keep small matrices busy together, and
# little beside the activations themselves.
_BATCH_ELEMENTS = 2**22


def mapped(function: Callable[[Any], Any], items: Any, elements: int) -> Any:
    """`function` over the leading axis of a pytree of arrays, in batches.

    Args:
      function: of one item.
      items: arrays [count, ...].
      elements: what one call of `function` holds in memory, in array elements.
    """
    count = jax.tree.leaves(items)[0].shape[0]
    batch = max(_BATCH_ELEMENTS // max(elements, 1), 1)
    if count == 1:
        one = function(jax.tree.map(lambda leaf: leaf[0], items))
        return jax.tree.map(lambda leaf: leaf[None], one)
    if count <= batch:
        return jax.vmap(function)(items)
    return jax.lax.map(function, items, batch_size=batch if batch > 1 else None)
