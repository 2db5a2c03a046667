"""Panels to look into: lines, heat maps and surfaces, as Plotly takes them.

A panel is a dictionary: `kind`, `title`, `alt` (the finding, in words), `data` and
`layout`. Colours of text and background come from the page, which knows its theme.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kd_heuristics.plots import style

Panel = dict[str, Any]

GREY = "#8a8a8a"
_SIGNED = [[0, "#2166ac"], [0.5, "#f7f7f7"], [1, "#b2182b"]]  # red above 0


def numbers(values: Any) -> list:
    """Nested lists rounded to five digits; what is not finite is null."""
    array = np.asarray(values, float)
    with np.errstate(all="ignore"):
        size = np.where(array == 0, 1, np.abs(array))
        scale = 10.0 ** (4 - np.floor(np.log10(size)))
        array = np.round(array * scale) / scale
    objects = array.astype(object)
    objects[~np.isfinite(array)] = None
    return objects.tolist()


def line(x: Any, values: Any, name: str, color: str, **options: Any) -> list[dict]:
    """The mean over seeds of `values` [seeds, points] or [points], and their range.

    Args:
      x: [points].
      values: as said.
      name: in the legend and under the pointer.
      color: of both.
      **options: `dash`, `mode`, `hidden` (off until chosen in the legend), `group`
        (one entry of the legend for all lines of it).
    """
    values = np.atleast_2d(np.asarray(values, float))
    shown = "legendonly" if options.get("hidden") else True
    common: dict[str, Any] = {"type": "scatter", "x": numbers(x), "visible": shown}
    common["legendgroup"] = options.get("group", name)
    traces = []
    if len(values) > 1:
        edges = ((values.min(0), "none"), (values.max(0), "tonexty"))
        traces += [
            common
            | {
                "y": numbers(edge),
                "mode": "lines",
                "line": {"width": 0, "color": color},
                "fill": fill,
                "fillcolor": _faint(color),
                "hoverinfo": "skip",
                "showlegend": False,
            }
            for edge, fill in edges
        ]
    main = {
        "y": numbers(values.mean(0)),
        "name": name,
        "mode": options.get("mode", "lines"),
        "line": {"color": color, "width": 2, "dash": options.get("dash", "solid")},
        "marker": {"color": color, "size": 6},
        "hovertemplate": f"{name}: %{{y:.4g}} at %{{x:.4g}}<extra></extra>",
    }
    return [*traces, common | main]


def lines(
    title: str,
    alt: str,
    traces: Sequence[list[dict]],
    x: str,
    y: str,
    *,
    log: bool = False,
    log_x: bool = False,
    span: Sequence[float] | None = None,
) -> Panel:
    """A panel of lines.

    Args:
      title: above it.
      alt: what it shows, in words.
      traces: of `line`.
      x: label of the axis.
      y: label of the axis.
      log: a logarithmic y axis.
      log_x: a logarithmic x axis.
      span: of the x axis.
    """
    for group in dict.fromkeys(t[-1]["legendgroup"] for t in traces):
        mains = [t[-1] for t in traces if t[-1]["legendgroup"] == group]
        if len(mains) > 1:
            for index, main in enumerate(mains):
                main["showlegend"] = index == 0
    layout: dict[str, Any] = {
        "xaxis": {"title": {"text": x}, "type": "log" if log_x else "linear"}
        | ({"range": list(span)} if span else {}),
        "yaxis": {"title": {"text": y}, "type": "log" if log else "linear"},
    }
    data = [trace for group in traces for trace in group]
    if log and _decades(data) > 0.7:
        layout["yaxis"]["dtick"] = "D2"  # 1, 2 and 5 of each decade
    return _panel("lines", title, alt, data, layout)


def heat(
    title: str,
    alt: str,
    values: Any,
    rows: Sequence[str],
    columns: Sequence[str] | None = None,
    *,
    words: tuple[str, str] = ("row", "column"),
    signed: bool = False,
    limit: float | None = None,
) -> Panel:
    """A heat map whose cells name both layers and the value.

    Args:
      title: above it.
      alt: what it shows, in words.
      values: [rows, columns].
      rows: layers of one network, the first on top.
      columns: of the other; None: `rows`.
      words: what rows and columns are: ("epoch 10", "epoch 150").
      signed: differences, white at 0; else similarities in [0, 1].
      limit: of the colours; None: 1, or the largest difference.
    """
    values = np.asarray(values, float)
    finite = np.abs(values[np.isfinite(values)])
    top = limit if limit is not None else (finite.max() if finite.size else 1.0)
    top = float(top) or 1.0
    trace = {
        "type": "heatmap",
        "z": numbers(values),
        "x": list(columns if columns is not None else rows),
        "y": list(rows),
        "colorscale": _SIGNED if signed else "Viridis",
        "zmin": -top if signed else 0,
        "zmax": top if signed else (limit or 1),
        "colorbar": {"thickness": 12, "len": 0.9},
        "hovertemplate": f"{words[0]} %{{y}}<br>{words[1]} %{{x}}<br>%{{z:.3f}}"
        "<extra></extra>",
        "meta": list(words),
    }
    layout = {
        "xaxis": {"type": "category", "title": {"text": words[1]}, "tickangle": -90},
        "yaxis": {
            "type": "category",
            "title": {"text": words[0]},
            "autorange": "reversed",
        },
    }
    return _panel("heat", title, alt, [trace], layout)


def surface(
    title: str,
    alt: str,
    xs: Any,
    ys: Any,
    losses: Mapping[str, Any],
    marks: Mapping[str, Sequence[float]],
) -> Panel:
    """A loss surface to turn, one trace a set, and networks that lie on the plane.

    Args:
      title: above it.
      alt: what it shows, in words.
      xs: [columns].
      ys: [rows].
      losses: `{"train": [rows, columns], "test": ...}`, positive.
      marks: name -> place (x, y).
    """
    data: list[dict[str, Any]] = []
    for index, (name, values) in enumerate(losses.items()):
        array = np.asarray(values, float)
        positive = array[np.isfinite(array) & (array > 0)]
        low = positive.min() if positive.size else 1.0
        array = np.where(np.isfinite(array), np.maximum(array, low), np.nan)
        common: dict[str, Any] = {"visible": index == 0, "meta": name}
        data.append(
            common
            | {
                "type": "surface",
                "x": numbers(xs),
                "y": numbers(ys),
                "z": numbers(array),
                "surfacecolor": numbers(np.log10(array)),
                "colorscale": "Viridis",
                "showscale": False,
                "hovertemplate": f"{name} loss %{{z:.4g}} nats<br>"
                "at (%{x:.3g}, %{y:.3g})<extra></extra>",
            }
        )
        data.append(common | _marks(xs, ys, array, marks))
    axis: dict[str, Any] = {"title": {"text": "distance"}}
    scene: dict[str, Any] = {"xaxis": axis, "yaxis": axis}
    scene["zaxis"] = {"title": {"text": "loss (nats)"}, "type": "log"}
    return _panel("surface", title, alt, data, {"scene": scene})


def _marks(xs, ys, losses, marks):
    """Networks at the height of the nearest grid point."""
    xs, ys = np.asarray(xs), np.asarray(ys)
    heights = [
        losses[np.abs(ys - y).argmin(), np.abs(xs - x).argmin()]
        for x, y in marks.values()
    ]
    places = np.array(list(marks.values()), float).reshape(-1, 2)
    return {
        "type": "scatter3d",
        "mode": "markers+text",
        "x": numbers(places[:, 0]),
        "y": numbers(places[:, 1]),
        "z": numbers(heights),
        "text": list(marks),
        "marker": {"size": 4, "color": style.COLORS[1]},
        "textfont": {"color": style.COLORS[1]},
        "hovertemplate": "%{text}<extra></extra>",
    }


def _decades(data) -> float:
    """How many powers of ten the shown values span."""
    shown = [trace["y"] for trace in data if trace["visible"] is True]
    values = [y for ys in shown for y in ys if y is not None and y > 0]
    return float(np.log10(max(values) / min(values))) if values else 0.0


def _panel(kind, title, alt, data, layout) -> Panel:
    return {"kind": kind, "title": title, "alt": alt, "data": data, "layout": layout}


def _faint(color: str) -> str:
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.18)"
