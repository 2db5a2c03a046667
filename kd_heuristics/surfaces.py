"""The earlier name of `kd_heuristics.points.surfaces`."""

from kd_heuristics.points import surfaces
from kd_heuristics.runtime.renamed import moved

__getattr__ = moved(__name__, surfaces)
