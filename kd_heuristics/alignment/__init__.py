"""Permutation symmetries of a network, and alignment of one network with another.

spec = alignment.spec(network.apply, a, images)  # found from the traced program
aligned = alignment.align(a, b, spec, key=key)   # b's units in the order of a's
"""

from kd_heuristics.alignment.finding import spec
from kd_heuristics.alignment.groups import Group, Spec
from kd_heuristics.alignment.matching import align, match

__all__ = ["Group", "Spec", "align", "match", "spec"]
