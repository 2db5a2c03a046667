"""The earlier name of `kd_heuristics.points.surfaces`."""

from kd_heuristics.points.surfaces import *  # noqa: F403
