"""Enlarges a network without changing its function (Chen et al. 2016, Net2Net).

`widen` copies units and divides the weights that read them. `deepen` inserts identity
layers. Both take and return variables, {"params": ..., "batch_stats": ...}, of our VGG
and ResNet forms; `widen` also accepts any network whose `units` are described. Continue
training at about a tenth of the learning rate.
"""

from kd_heuristics.distill.net2net.deepen import deepen
from kd_heuristics.distill.net2net.units import Units, units_of, widths
from kd_heuristics.distill.net2net.widen import widen

__all__ = ["Units", "deepen", "units_of", "widen", "widths"]
