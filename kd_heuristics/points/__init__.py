"""Metrics at many parameter points, for curves, segments, planes and surfaces.

refresh = points.pooled(train, batch_stats, train_batches)  # for batch norm
values = points.evaluate(curve.at, ts, test_batches, metric, refresh_stats=refresh)
points.summary(values["loss"], ts, curve)
"""

from kd_heuristics.points.evaluate import CHUNK, Metric, evaluate, evaluate_sets
from kd_heuristics.points.linen import linen_moments
from kd_heuristics.points.statistics import cumulative, exact, pooled
from kd_heuristics.points.summary import crossing, summary

__all__ = [
    "CHUNK",
    "Metric",
    "crossing",
    "cumulative",
    "evaluate",
    "evaluate_sets",
    "exact",
    "linen_moments",
    "pooled",
    "summary",
]
