"""Figures as data, and their still images."""

from kd_heuristics.plots.checks import FigureError
from kd_heuristics.plots.figure import Figure, Panel
from kd_heuristics.plots.panels import (
    Axis,
    Chart,
    HeatMap,
    LossSurface,
    Reference,
    Series,
    Table,
)
from kd_heuristics.plots.schedules import schedule_gallery

__all__ = [
    "Axis",
    "Chart",
    "Figure",
    "FigureError",
    "HeatMap",
    "LossSurface",
    "Panel",
    "Reference",
    "Series",
    "Table",
    "schedule_gallery",
]
