"""The panels of a figure: charts of series, heat maps, surfaces and tables.

Arrays become float64; non-finite values are drawn as gaps.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY
from typing import Literal

import numpy as np

from kd_heuristics.plots import checks, style


@dataclasses.dataclass(frozen=True)
class Axis:
    """An axis of a chart.

    Attributes:
      label: quantity on the axis.
      unit: unit of the quantity.
      scale: "symlog" is linear between -10 and 10.
      names: names of the places 0, 1, 2, ...; on a y axis the first is on top.
      ticks: the only labelled values; () chooses them automatically.
      limits: lowest and highest value; `None` fits the data.
      bare: whether to omit all labels, because the numbers have no meaning.
    """

    label: str = ""
    unit: str = ""
    scale: Literal["linear", "log", "symlog"] = "linear"
    _: KW_ONLY
    names: Sequence[str] = ()
    ticks: Sequence[checks.Real] = ()
    limits: Sequence[checks.Real | None] = (None, None)
    bare: bool = False

    def __post_init__(self):
        checks.choices(self)
        if len(self.limits) != 2:
            raise checks.FigureError(f"limits must be two, got {self.limits}")

    @property
    def words(self) -> str:
        """Label, unit and scale.

        >>> Axis("train loss", "nats", "log").words
        'train loss (nats, log scale)'
        """
        scale = {"linear": "", "log": "log scale", "symlog": "log scale above 10"}
        inside = ", ".join(filter(None, (self.unit, scale[self.scale])))
        return f"{self.label} ({inside})" if inside else self.label


@dataclasses.dataclass(frozen=True, eq=False)
class Series:
    """Points of a chart: a line, marks, or both.

    Attributes:
      x: [points].
      y: [points], or [seeds, points] to draw the mean over seeds and the range.
      name: name in the legend and under the pointer; "" omits it from the legend.
      color: "#rrggbb".
      legend: entry in the legend of a still image; `None` uses `name`, or one entry for
        all series of the paper.
      line: "steps" holds each value until the next x; "bars" rise from 0.
      marker: marker of each point; "" draws none.
      filled: whether markers are filled.
      labels: text beside each point; () for none.
      paper: whether it shows the paper's values, drawn in grey behind the others.
      hidden: whether still images omit it; the page shows it if chosen in the legend.
    """

    x: checks.Values
    y: checks.Values
    name: str = ""
    color: str = style.COLORS[0]
    _: KW_ONLY
    legend: str | None = None
    line: Literal["solid", "dash", "dot", "steps", "bars", "none"] = "solid"
    marker: Literal["", ".", "o", "s", "D", "x", "*"] = ""
    filled: bool = True
    labels: Sequence[str] = ()
    paper: bool = False
    hidden: bool = False

    def __post_init__(self):
        checks.choices(self)
        what = f"series {self.name!r}"
        x, y = checks.floats(self, "x", what), checks.floats(self, "y", what)
        if x.ndim != 1 or y.ndim not in (1, 2) or y.shape[-1] != len(x) or not y.size:
            raise checks.FigureError(
                f"{what} needs x [points] and y [points] or [seeds, points], got "
                f"{x.shape} and {y.shape}"
            )
        if len(self.labels) not in (0, len(x)):
            raise checks.FigureError(
                f"{what} needs a label for each of its {len(x)} points or none, got "
                f"{len(self.labels)}"
            )
        if not re.fullmatch("#[0-9a-fA-F]{6}", self.color):
            raise checks.FigureError(f"{what} needs #rrggbb, got {self.color!r}")

    @property
    def mean(self) -> np.ndarray:
        """Mean over seeds, [points]."""
        return np.atleast_2d(self.y).mean(0)


@dataclasses.dataclass(frozen=True)
class Reference:
    """A dotted line at one value of an axis."""

    value: checks.Real
    name: str = ""
    axis: Literal["x", "y"] = "y"

    def __post_init__(self):
        checks.choices(self)


@dataclasses.dataclass(frozen=True, eq=False)
class Chart:
    """Series on two axes; `legend` draws the legend in this panel of a still image.

    `paper` as in `HeatMap`.
    """

    title: str
    x: Axis
    y: Axis
    series: Sequence[Series]
    references: Sequence[Reference] = ()
    _: KW_ONLY
    legend: bool = True
    still: bool = True
    paper: bool = False
    kind: Literal["chart"] = "chart"


@dataclasses.dataclass(frozen=True, eq=False)
class HeatMap:
    """A matrix as colours, the first row on top.

    Attributes:
      title: title above the map.
      values: [rows, columns].
      rows: names of the rows.
      columns: names of the columns.
      x: label of the columns.
      y: label of the rows.
      scale: "similarity" is in [0, 1], "signed" is white at 0, "size" uses absolute
        values.
      limit: difference at the end of the scale; `None` uses the largest.
      label: label of the colour bar; maps with the same scale and label share one.
      floor: [rows, columns]; entries that do not exceed it get a dot.
      square: whether cells of a still image are square; else they fill the panel.
      still: `False` shows the panel on the page only.
      paper: whether it shows the paper's values alone.
    """

    title: str
    values: checks.Values
    rows: Sequence[str]
    columns: Sequence[str]
    _: KW_ONLY
    x: str = "column"
    y: str = "row"
    scale: Literal["similarity", "signed", "size"] = "similarity"
    limit: checks.Real | None = None
    label: str = ""
    floor: checks.Values | None = None
    square: bool = True
    still: bool = True
    paper: bool = False
    kind: Literal["heat"] = "heat"

    def __post_init__(self):
        checks.choices(self)
        for name in ("values",) if self.floor is None else ("values", "floor"):
            shape = checks.floats(self, name, f"heat map {self.title!r}").shape
            if shape != (len(self.rows), len(self.columns)) or not shape[0] * shape[1]:
                raise checks.FigureError(
                    f"heat map {self.title!r} has {len(self.rows)} rows and "
                    f"{len(self.columns)} columns, but its {name} are {shape}"
                )


@dataclasses.dataclass(frozen=True, eq=False)
class LossSurface:
    """Losses over a plane: contours in a still image, a rotatable surface on the page.

    Attributes:
      title: title above the panel.
      xs: [columns].
      ys: [rows].
      losses: `{"train": [rows, columns], "test": ...}`, in nats.
      series: lines and labelled points on the plane.
      x: label of the first direction.
      y: label of the second direction.
      still: `False` shows the panel on the page only.
    """

    title: str
    xs: checks.Values
    ys: checks.Values
    losses: Mapping[str, checks.Values]
    series: Sequence[Series] = ()
    _: KW_ONLY
    x: str = "distance along the first direction"
    y: str = "distance along the second"
    still: bool = True
    paper: Literal[False] = False
    kind: Literal["surface"] = "surface"

    def __post_init__(self):
        what = f"surface {self.title!r}"
        place = checks.floats(self, "ys", what).shape
        place += checks.floats(self, "xs", what).shape
        found = {
            name: checks.array(values, f"{what} needs numbers as its losses")
            for name, values in self.losses.items()
        }
        object.__setattr__(self, "losses", found)
        shapes = {name: values.shape for name, values in found.items()}
        if len(place) != 2 or 0 in place or {*shapes.values()} != {place}:
            raise checks.FigureError(
                f"{what} needs losses of shape [ys, xs], {place}, got {shapes}"
            )


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of text below a header; shown on the page only. `paper` as in `HeatMap`."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    _: KW_ONLY
    still: Literal[False] = False
    paper: bool = False
    kind: Literal["table"] = "table"

    def __post_init__(self):
        for row in self.rows:
            if len(row) != len(self.head):
                raise checks.FigureError(
                    f"table {self.title!r} needs {len(self.head)} cells a row, got "
                    f"{len(row)}"
                )
