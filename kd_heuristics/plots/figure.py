"""Figures as data, which general code draws as still images and on the page.

A figure holds no reference to its run, so its file alone can be drawn.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import KW_ONLY

from kd_heuristics.plots.checks import FigureError, Real
from kd_heuristics.plots.panels import Chart, HeatMap, LossSurface, Table

Panel = Chart | HeatMap | LossSurface | Table


@dataclasses.dataclass(frozen=True, eq=False)
class Figure:
    """Panels in reading order, with title and caption.

    Attributes:
      title: title above a still image.
      subtitle: description of the run after the title. "{run}" and "{seeds}" are filled
        in before the figure is written.
      alt: text alternative to the figure; "" uses the caption.
      caption: caption below the figure, on the page.
      panels: panels in reading order.
      claims: keys, or families of keys, of the claims that it shows.
      columns: number of columns of panels in a still image.
      width: width of a still image in inches.
      height: height of a row of panels in inches.
      legend_below: whether a still image has the first panel's legend below all panels.
      place: position among the figures of a run.
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
