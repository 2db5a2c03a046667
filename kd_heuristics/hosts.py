"""The earlier name of `kd_heuristics.runtime.hosts`."""

from kd_heuristics.runtime.hosts import *  # noqa: F403
