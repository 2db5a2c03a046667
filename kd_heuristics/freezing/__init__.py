"""Holding some layers still: for a while (`freeze`) or for good (`stop_frozen`).

A layer is named by the path of its leaves, "fc/kernel", and chosen by a predicate:

    optimizer = freezing.freeze(optax.adam(1e-3), lambda path: "fc" in path, until=200)
"""

from kd_heuristics.freezing.freeze import FreezeState, freeze, is_frozen
from kd_heuristics.freezing.leaves import keep_batch_stats, stop_frozen

__all__ = ["FreezeState", "freeze", "is_frozen", "keep_batch_stats", "stop_frozen"]
