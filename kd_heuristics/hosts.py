"""The earlier name of `kd_heuristics.runtime.hosts`."""

from kd_heuristics.runtime import hosts
from kd_heuristics.runtime.renamed import moved

__getattr__ = moved(__name__, hosts)
