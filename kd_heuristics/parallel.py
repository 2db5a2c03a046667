"""The earlier name of `kd_heuristics.runtime.parallel`."""

from kd_heuristics.runtime import parallel
from kd_heuristics.runtime.renamed import moved

__getattr__ = moved(__name__, parallel)
