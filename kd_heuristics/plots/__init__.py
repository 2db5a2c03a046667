"""Figures: pure functions of a run folder."""

from kd_heuristics.plots.distillation import distillation
from kd_heuristics.plots.fsp import fsp
from kd_heuristics.plots.funmatch import funmatch
from kd_heuristics.plots.mode_connectivity import mode_connectivity
from kd_heuristics.plots.schedules import schedule_gallery
from kd_heuristics.plots.sgdr import sgdr
from kd_heuristics.plots.warmup import warmup

__all__ = [
    "distillation",
    "fsp",
    "funmatch",
    "mode_connectivity",
    "schedule_gallery",
    "sgdr",
    "warmup",
]
