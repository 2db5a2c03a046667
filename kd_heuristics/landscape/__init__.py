"""Planes and directions in parameter space, on which loss surfaces are evaluated.

    plane = landscape.plane(a, b, bend)       # through three networks
    plane.anchors                             # their coordinates, [3, 2]
    x, y = plane.project(other)               # coordinates of another network

    around = landscape.span(params, *directions)  # around one network

Only floating-point leaves move. `points.evaluate` evaluates metrics at many points of
either; `surfaces.evaluate` evaluates a whole grid and saves it chunk by chunk.
"""

from kd_heuristics.landscape.directions import normalize_direction, random_direction
from kd_heuristics.landscape.filters import FilterAxes
from kd_heuristics.landscape.grid import grid
from kd_heuristics.landscape.plane import Plane, plane
from kd_heuristics.landscape.span import Span, span
from kd_heuristics.landscape.trajectory import Trajectory, trajectory

__all__ = [
    "FilterAxes",
    "Plane",
    "Span",
    "Trajectory",
    "grid",
    "normalize_direction",
    "plane",
    "random_direction",
    "span",
    "trajectory",
]
