"""What a figure is: data that general code draws, as a still image and on the page.

A figure has panels; each panel is a chart of series, a heat map, a surface or a table.
It holds no reference to the run that it was made from, so that its file alone can be
drawn. Arrays become float64; what is not finite is drawn as a gap.
"""

import dataclasses
import re
import typing
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np

from kd_heuristics import nearest
from kd_heuristics.plots import style

Real = int | float
# Whatever NumPy makes an array of; a figure holds the array.
Values = Annotated[Any, "float64"]


class FigureError(ValueError):
    """A figure that cannot be drawn; the message says which part, and why."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Axis:
    """An axis of a chart.

    Attributes:
      label: what it measures.
      unit: of the label.
      scale: "symlog" is linear between -10 and 10.
      names: of the places 0, 1, 2, ...; on a y axis the first is on top.
      ticks: the only values that are written; () leaves them to the drawing.
      limits: lowest and highest value; `None` fits the data.
      bare: nothing is written along it, as its numbers mean nothing.
    """

    label: str = ""
    unit: str = ""
    scale: Literal["linear", "log", "symlog"] = "linear"
    names: tuple[str, ...] = ()
    ticks: tuple[Real, ...] = ()
    limits: tuple[Real | None, Real | None] = (None, None)
    bare: bool = False

    def __post_init__(self):
        _check_choices(self)

    @property
    def words(self) -> str:
        """Label, unit and scale.

        >>> Axis(label="train loss", unit="nats", scale="log").words
        'train loss (nats, log scale)'
        """
        scale = {"linear": "", "log": "log scale", "symlog": "log scale above 10"}
        inside = ", ".join(filter(None, (self.unit, scale[self.scale])))
        return f"{self.label} ({inside})" if inside else self.label


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Series:
    """Points of a chart: a line, marks, or both.

    Attributes:
      x: [points].
      y: [points], or [seeds, points] for the mean over seeds and its range.
      name: in the legend and under the pointer; "" leaves it out of the legend.
      legend: in the legend of a still image; `None` uses `name`.
      color: "#rrggbb".
      line: "steps" holds each value until the next x; "bars" rise from 0.
      marker: of each point; "" draws none.
      filled: whether markers are filled.
      labels: words beside the points, one each or none at all.
      paper: drawn behind the others, in grey, as the paper's.
      hidden: left out of still images; the page shows it when chosen in the legend.
    """

    x: Values
    y: Values
    name: str = ""
    legend: str | None = None
    color: str = style.COLORS[0]
    line: Literal["solid", "dash", "dot", "steps", "bars", "none"] = "solid"
    marker: Literal["", ".", "o", "s", "D", "x", "*"] = ""
    filled: bool = True
    labels: tuple[str, ...] = ()
    paper: bool = False
    hidden: bool = False

    def __post_init__(self):
        _check_choices(self)
        what = f"series {self.name!r}"
        x, y = _floats(self, "x", what), _floats(self, "y", what)
        if x.ndim != 1 or y.ndim not in (1, 2) or y.shape[-1] != len(x) or not y.size:
            raise FigureError(
                f"{what} needs x [points] and y [points] or [seeds, points], got "
                f"{x.shape} and {y.shape}"
            )
        if len(self.labels) not in (0, len(x)):
            raise FigureError(
                f"{what} needs a label for each of its {len(x)} points or none, got "
                f"{len(self.labels)}"
            )
        if not re.fullmatch("#[0-9a-fA-F]{6}", self.color):
            raise FigureError(f"{what} needs a color as #rrggbb, got {self.color!r}")

    @property
    def mean(self) -> np.ndarray:
        """[points], over the seeds."""
        return np.atleast_2d(self.y).mean(0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reference:
    """A dotted line at one value of an axis."""

    value: Real
    axis: Literal["x", "y"] = "y"
    name: str = ""

    def __post_init__(self):
        _check_choices(self)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Chart:
    """Series on two axes; `legend`: a still image has it in this panel."""

    title: str
    x: Axis
    y: Axis
    series: tuple[Series, ...]
    references: tuple[Reference, ...] = ()
    legend: bool = True
    still: bool = True
    kind: Literal["chart"] = "chart"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class HeatMap:
    """A matrix as colours, the first row on top.

    Attributes:
      title: above it.
      values: [rows, columns].
      rows: their names.
      columns: their names.
      x: what the columns are.
      y: what the rows are.
      scale: "similarity" is in [0, 1], "signed" is white at 0, "size" takes the
        absolute values.
      limit: end of the colours of differences; `None` takes the largest.
      label: of the colour bar; maps of one scale and label share one.
      floor: [rows, columns]; entries that do not exceed it get a dot.
      square: whether the cells of a still image are; else they fill the panel.
      still: `False` leaves the panel to the page.
    """

    title: str
    values: Values
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    x: str = "column"
    y: str = "row"
    scale: Literal["similarity", "signed", "size"] = "similarity"
    limit: Real | None = None
    label: str = ""
    floor: Values | None = None
    square: bool = True
    still: bool = True
    kind: Literal["heat"] = "heat"

    def __post_init__(self):
        _check_choices(self)
        for name in ("values",) if self.floor is None else ("values", "floor"):
            shape = _floats(self, name, f"heat map {self.title!r}").shape
            if shape != (len(self.rows), len(self.columns)) or not shape[0] * shape[1]:
                raise FigureError(
                    f"heat map {self.title!r} has {len(self.rows)} rows and "
                    f"{len(self.columns)} columns, but its {name} are {shape}"
                )


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class LossSurface:
    """Losses over a plane: contours in a still image, a surface to turn on the page.

    Attributes:
      title: above it.
      xs: [columns].
      ys: [rows].
      losses: `{"train": [rows, columns], "test": ...}`, in nats.
      series: lines and labelled points on the plane.
      still: `False` leaves the panel to the page.
    """

    title: str
    xs: Values
    ys: Values
    losses: Mapping[str, Values]
    series: tuple[Series, ...] = ()
    still: bool = True
    kind: Literal["surface"] = "surface"

    def __post_init__(self):
        what = f"surface {self.title!r}"
        place = len(_floats(self, "ys", what)), len(_floats(self, "xs", what))
        found = {
            name: _array(values, f"{what} needs numbers as its losses")
            for name, values in self.losses.items()
        }
        object.__setattr__(self, "losses", found)
        shapes = {name: values.shape for name, values in found.items()}
        if not found or 0 in place or {*shapes.values()} != {place}:
            raise FigureError(f"{what} needs losses of shape {place}, got {shapes}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of words under a head; the page alone shows it."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    still: Literal[False] = False
    kind: Literal["table"] = "table"

    def __post_init__(self):
        for row in self.rows:
            if len(row) != len(self.head):
                raise FigureError(
                    f"table {self.title!r} needs {len(self.head)} cells a row, got "
                    f"{len(row)}"
                )


Panel = Chart | HeatMap | LossSurface | Table


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Figure:
    """Panels in reading order, and the words around them.

    Attributes:
      title: over a still image.
      subtitle: after it: which run. A study may write "{run}" and "{seeds}", which are
        filled in before the figure is written.
      caption: below it, on the page.
      alt: what it shows, for those who cannot see it; "" uses the caption.
      claims: keys, or families of keys, of the claims that it shows.
      panels: in reading order.
      columns: of panels in a still image.
      width: of a still image, in inches.
      height: of a row of its panels, in inches.
      legend_below: whether a still image has its first panel's legend below all.
      place: among the figures of a run.
    """

    title: str
    caption: str
    panels: tuple[Panel, ...]
    subtitle: str = "{run}, {seeds}"
    alt: str = ""
    claims: tuple[str, ...] = ()
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


def _floats(owner: Any, name: str, what: str) -> np.ndarray:
    """Replaces a field by its float64 array."""
    array = _array(getattr(owner, name), f"{what} needs numbers as its {name}")
    object.__setattr__(owner, name, array)
    return array


def _array(values: Any, what: str) -> np.ndarray:
    try:
        return np.asarray(values, np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise FigureError(f"{what}: {error}") from None


def _check_choices(owner: Any) -> None:
    """Refuses a word that a `Literal` field does not have."""
    for name, hint in typing.get_type_hints(type(owner)).items():
        if typing.get_origin(hint) is Literal:
            try:
                nearest.choose(getattr(owner, name), typing.get_args(hint), name)
            except ValueError as error:
                raise FigureError(str(error)) from None
