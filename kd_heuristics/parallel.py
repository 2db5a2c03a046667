"""The earlier name of `kd_heuristics.runtime.parallel`."""

from kd_heuristics.runtime.parallel import *  # noqa: F403
