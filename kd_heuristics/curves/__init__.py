"""Curves between networks, or any trees of arrays: segment, polygonal chain, Bezier.

    curve = curves.polychain([a, bend, b])
    halfway = curve.at(0.5)

Only floating-point leaves move; all others must agree between the points and stay. To
fit a curve, minimise `CurveLoss` over the bends, by `training.fit` or any optimiser.
With free ends the parameters are the curve itself, which is a pytree.
"""

from kd_heuristics.curves.arc import arc_integral, length, uniform_t
from kd_heuristics.curves.curve import (
    Curve,
    bends,
    bezier,
    line,
    midpoint,
    polychain,
    with_bends,
)
from kd_heuristics.curves.fitting import CurveLoss, sample_t
from kd_heuristics.curves.trees import distance

__all__ = [
    "Curve",
    "CurveLoss",
    "arc_integral",
    "bends",
    "bezier",
    "distance",
    "length",
    "line",
    "midpoint",
    "polychain",
    "sample_t",
    "uniform_t",
    "with_bends",
]
