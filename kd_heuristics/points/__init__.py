"""Metrics at many parameter points, for curves, segments, planes and surfaces.

refresh = points.refit_pooled(train, batch_stats, train_batches)  # for batch norm
values = points.evaluate(curve.at, ts, test_batches, metric, refresh_stats=refresh)
points.summary(values["loss"], ts, curve)
"""

from kd_heuristics.points.evaluate import CHUNK, Metric, evaluate, evaluate_sets
from kd_heuristics.points.linen import linen_moments
from kd_heuristics.points.statistics import refit_cumulative, refit_exact, refit_pooled
from kd_heuristics.points.summary import barrier, summary

# Names of version 0.1, to be removed after the next release.
exact, pooled, cumulative = refit_exact, refit_pooled, refit_cumulative
crossing = barrier

__all__ = [
    "CHUNK",
    "Metric",
    "barrier",
    "crossing",
    "cumulative",
    "evaluate",
    "evaluate_sets",
    "exact",
    "linen_moments",
    "pooled",
    "refit_cumulative",
    "refit_exact",
    "refit_pooled",
    "summary",
]
