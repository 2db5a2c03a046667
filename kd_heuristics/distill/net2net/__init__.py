"""A larger network that computes what a smaller one does (Chen et al. 2016, Net2Net).

`widen` copies units and divides what their readers make of them; `deepen` puts layers
in between that change nothing. Both take and return the variables, {"params": ...,
"batch_stats": ...}, of our VGG and ResNet forms; `widen` those of any network whose
`units` are described. Training then goes on at about a tenth of the learning rate.
"""

from kd_heuristics.distill.net2net.deepen import deepen
from kd_heuristics.distill.net2net.units import Units, units_of, widths
from kd_heuristics.distill.net2net.widen import widen

__all__ = ["Units", "deepen", "units_of", "widen", "widths"]
