"""Planes and directions in parameter space, on which a loss surface is drawn.

    plane = landscape.plane(a, b, bend)       # through three networks
    plane.anchors                             # where they lie, [3, 2]
    x, y = plane.project(other)               # where another one comes to lie

    around = landscape.span(params, *directions)  # around one network

Only floating-point leaves move. `points.evaluate` gives metrics at many points of
either, `surfaces.evaluate` a whole grid that is saved as it goes.
"""

from kd_heuristics.landscape.directions import normalize_direction, random_direction
from kd_heuristics.landscape.filters import FilterAxes
from kd_heuristics.landscape.plane import Plane, plane
from kd_heuristics.landscape.span import Span, span
from kd_heuristics.landscape.trajectory import Trajectory, trajectory

__all__ = [
    "FilterAxes",
    "Plane",
    "Span",
    "Trajectory",
    "normalize_direction",
    "plane",
    "random_direction",
    "span",
    "trajectory",
]
