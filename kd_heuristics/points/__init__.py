"""Metrics at many parameter points, for curves, segments, planes and surfaces.

refresh = points.refit_pooled(train, batch_stats, train_batches)  # for batch norm
values = points.evaluate(curve.at, ts, test_batches, metric, refresh_stats=refresh)
points.path_summary(values["loss"], ts, curve)
"""

from kd_heuristics.points.evaluate import CHUNK, Metric, evaluate, evaluate_sets
from kd_heuristics.points.inputs import input_moments
from kd_heuristics.points.path import barrier, path_summary
from kd_heuristics.points.statistics import refit_cumulative, refit_exact, refit_pooled
from kd_heuristics.runtime.renamed import earlier

# Names of version 0.1, to be removed after the next release.
__getattr__ = earlier(
    __name__,
    __name__,
    {
        "crossing": ("barrier", barrier),
        "cumulative": ("refit_cumulative", refit_cumulative),
        "exact": ("refit_exact", refit_exact),
        "linen_moments": ("input_moments", input_moments),
        "pooled": ("refit_pooled", refit_pooled),
        "summary": ("path_summary", path_summary),
    },
)

__all__ = [
    "CHUNK",
    "Metric",
    "barrier",
    "evaluate",
    "evaluate_sets",
    "input_moments",
    "path_summary",
    "refit_cumulative",
    "refit_exact",
    "refit_pooled",
]
