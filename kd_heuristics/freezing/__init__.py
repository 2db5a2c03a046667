"""Freezing of layers: until a step (`freeze`) or for good (`stop_frozen`).

A predicate chooses layers by the paths of their leaves, such as "fc/kernel":

    optimizer = freezing.freeze(optax.adam(1e-3), lambda path: "fc" in path, until=200)
"""

from kd_heuristics.freezing.freeze import FreezeState, freeze, is_frozen
from kd_heuristics.freezing.leaves import keep_batch_stats, stop_frozen

__all__ = ["FreezeState", "freeze", "is_frozen", "keep_batch_stats", "stop_frozen"]
