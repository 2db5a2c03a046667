"""What a figure is: data that general code draws, as a still image and on the page.

It holds no reference to the run that it was made from, so that its file alone can be
drawn.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import KW_ONLY

from kd_heuristics.plots.checks import FigureError, Real
from kd_heuristics.plots.panels import Chart, HeatMap, LossSurface, Table

Panel = Chart | HeatMap | LossSurface | Table


@dataclasses.dataclass(frozen=True, eq=False)
class Figure:
    """Panels in reading order, and the words around them.

    Attributes:
      title: over a still image.
      subtitle: after it: which run. A study may write "{run}" and "{seeds}", which are
        filled in before the figure is written.
      alt: what it shows, for those who cannot see it; "" uses the caption.
      caption: below it, on the page.
      panels: in reading order.
      claims: keys, or families of keys, of the claims that it shows.
      columns: of panels in a still image.
      width: of a still image, in inches.
      height: of a row of its panels, in inches.
      legend_below: whether a still image has its first panel's legend below all.
      place: among the figures of a run.
    """

    title: str
    caption: str
    panels: Sequence[Panel]
    claims: Sequence[str] = ()
    _: KW_ONLY
    subtitle: str = "{run}, {seeds}"
    alt: str = ""
    columns: int = 2
    width: Real = 9.0
    height: Real = 3.2
    legend_below: bool = False
    place: int = 0

    def __post_init__(self):
        if not any(panel.still for panel in self.panels):
            raise FigureError(f"figure {self.title!r} has no panel for a still image")
        if min(self.columns, self.width, self.height) <= 0:
            raise FigureError(f"figure {self.title!r} has a size that is not positive")
