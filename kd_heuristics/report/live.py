"""Interactive panels of a figure, in Plotly's format.

A panel is a dictionary: `kind`, `title`, `alt` (the finding, in words), `data`,
`layout` and `names` (of the places on an axis). The page's theme sets the colours of
text and background.
"""

import html
from collections.abc import Sequence
from typing import Any

import numpy as np

from kd_heuristics.plots import maps, style
from kd_heuristics.plots import panels as parts
from kd_heuristics.plots.figure import Figure

_SIGNED = [[0, "#2166ac"], [0.5, "#f7f7f7"], [1, "#b2182b"]]  # red above 0
_SYMBOLS = {".": "circle", "o": "circle", "s": "square", "D": "diamond", "x": "x"}
_SYMBOLS |= {"*": "star", "": "circle"}


def panels(figure: Figure, alt: str) -> list[dict[str, Any]]:
    """Returns all panels of a figure except its tables; `alt` describes them."""
    makers: dict[str, Any] = {"chart": _chart, "heat": _heat_map, "surface": _surface}
    return [
        {"kind": panel.kind, "title": panel.title, "alt": alt, **made}
        for panel in figure.panels
        if panel.kind in makers
        for made in [makers[panel.kind](panel)]
    ]


def numbers(values: Any) -> list:
    """Convert to nested lists rounded to five digits; non-finite values become null."""
    array = np.asarray(values, float)
    with np.errstate(all="ignore"):
        size = np.where(array == 0, 1, np.abs(array))
        scale = 10.0 ** (4 - np.floor(np.log10(size)))
        array = np.round(array * scale) / scale
    objects = array.astype(object)
    objects[~np.isfinite(array)] = None
    return objects.tolist()


def _chart(chart: parts.Chart) -> dict[str, Any]:
    data = [trace for series in chart.series for trace in _series(series, chart)]
    data += [_reference(line, chart) for line in chart.references]
    papers = [trace for trace in data if trace["legendgroup"] == "paper"]
    for index, trace in enumerate(papers):
        trace["showlegend"] = index == 0
    layout = {"xaxis": _axis(chart.x), "yaxis": _axis(chart.y)}
    names = {"x": list(chart.x.names), "y": list(chart.y.names)}
    if names["y"]:
        layout["yaxis"]["range"] = [len(names["y"]) - 0.4, -0.6]
    return {"data": data, "layout": layout, "names": names}


def _axis(axis: parts.Axis) -> dict[str, Any]:
    """Returns Plotly's layout of an axis."""
    log = axis.scale == "log"
    made: dict[str, Any] = {"title": {"text": axis.words}}
    made["type"] = "log" if log else "linear"
    if any(end is not None for end in axis.limits):
        made["range"] = [
            np.log10(end) if log and end is not None and end > 0 else end
            for end in axis.limits
        ]
    if axis.bare:
        made["showticklabels"] = False
    ticks = axis.ticks or range(len(axis.names))
    if ticks:
        made["tickvals"] = list(ticks)
        made["ticktext"] = list(axis.names) or [f"{tick:,.10g}" for tick in ticks]
    return made


def _series(series: parts.Series, chart: parts.Chart) -> list[dict[str, Any]]:
    """Returns the traces of a series: the mean over seeds, above their range."""
    name = series.name or next(filter(None, series.labels), "")
    color = style.GREY if series.paper else series.color
    common: dict[str, Any] = {
        "type": "scatter",
        "x": numbers(series.x),
        "visible": "legendonly" if series.hidden else True,
        "legendgroup": "paper" if series.paper else name,
    }
    bounds = []
    if series.y.ndim == 2 and len(series.y) > 1:
        edges = (series.y.min(0), "none"), (series.y.max(0), "tonexty")
        bounds = [
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
    # Named rows are labelled at the axis, so the legend need not repeat them.
    short = series.legend if chart.y.names else None
    main: dict[str, Any] = {
        "y": numbers(series.mean),
        "name": short or name,
        "meta": name,
        "showlegend": bool(series.name if short is None else short),
        "mode": _mode(series),
        "hovertemplate": f"{_plain(name)}: {_at(chart.y, 'y')} at {_at(chart.x, 'x')}"
        "<extra></extra>",
    }
    if series.line == "bars":
        return [common | main | {"type": "bar", "marker": {"color": color}}]
    dash = series.line if series.line in ("dash", "dot") else "solid"
    shape = "hv" if series.line == "steps" else "linear"
    main["line"] = {"color": color, "width": 2, "dash": dash, "shape": shape}
    symbol = _SYMBOLS[series.marker] + ("" if series.filled else "-open")
    size = {"*": 11, ".": 5}.get(series.marker, 7)
    main["marker"] = {"color": color, "size": size, "symbol": symbol}
    if series.labels:
        main |= {"text": list(series.labels), "textposition": "top right"}
        main["textfont"] = {"color": color, "size": 10}
    return [*bounds, common | main]


def _mode(series: parts.Series) -> str:
    """Returns Plotly's mode: which of lines, markers and text are drawn."""
    shown = (series.line != "none", series.marker, series.labels)
    kinds = zip(("lines", "markers", "text"), shown, strict=True)
    return "+".join(kind for kind, drawn in kinds if drawn) or "none"


def _reference(line: parts.Reference, chart: parts.Chart) -> dict[str, Any]:
    """Returns a dotted reference line across the visible series of a chart."""
    shown = [series for series in chart.series if not series.hidden]
    along = [s.x if line.axis == "y" else s.y.ravel() for s in shown]
    places = np.concatenate([[], *along])
    places = places[np.isfinite(places)]
    ends = [places.min(), places.max()] if places.size else [0.0, 1.0]
    x, y = (ends, [line.value] * 2) if line.axis == "y" else ([line.value] * 2, ends)
    return {
        "type": "scatter",
        "x": numbers(x),
        "y": numbers(y),
        "name": line.name,
        "showlegend": bool(line.name),
        "legendgroup": line.name,
        "visible": True,
        "mode": "lines",
        "line": {"color": style.DARK, "width": 1.5, "dash": "dot"},
        "hovertemplate": f"{_plain(line.name)}<extra></extra>",
    }


def _heat_map(panel: parts.HeatMap) -> dict[str, Any]:
    values = np.abs(panel.values) if panel.scale == "size" else panel.values
    low, high = maps.limits(values, panel.scale, panel.limit)
    colors = {"similarity": "Viridis", "signed": _SIGNED, "size": "Greys"}[panel.scale]
    below = "" if panel.floor is None else "<br>%{customdata}"
    trace: dict[str, Any] = {
        "type": "heatmap",
        "z": numbers(values),
        "x": list(panel.columns),
        "y": list(panel.rows),
        "colorscale": colors,
        "reversescale": panel.scale == "size",
        "zmin": low,
        "zmax": high,
        "colorbar": {"thickness": 12, "len": 0.9},
        "hovertemplate": f"{_plain(panel.y)}: %{{y}}<br>{_plain(panel.x)}: %{{x}}<br>"
        f"%{{z:.3f}}{below}<extra></extra>",
        "meta": [panel.y, panel.x],
    }
    if panel.floor is not None:
        noise = values <= panel.floor
        trace["customdata"] = np.where(noise, "not above the noise floor", "").tolist()
    layout = {"xaxis": _layers(panel.x, panel.columns)}
    layout["yaxis"] = _layers(panel.y, panel.rows)
    layout["xaxis"]["tickangle"] = -90
    layout["yaxis"]["autorange"] = "reversed"
    return {"data": [trace], "layout": layout}


def _layers(words: str, names: Sequence[str]) -> dict[str, Any]:
    """Returns the layout of an axis of layers, labelled as the stills' axes."""
    every = -(-len(names) // 30)  # more labels would overlap
    return {
        "type": "category",
        "title": {"text": words, "standoff": 12},
        "tickvals": list(names[::every]),
        "ticktext": maps.short(names)[::every],
    }


def _surface(panel: parts.LossSurface) -> dict[str, Any]:
    """Returns a rotatable surface per set, with its networks; shows the first."""
    data: list[dict[str, Any]] = []
    for index, (name, losses) in enumerate(panel.losses.items()):
        positive = losses[np.isfinite(losses) & (losses > 0)]
        low = positive.min() if positive.size else 1.0
        heights = np.where(np.isfinite(losses), np.maximum(losses, low), np.nan)
        common: dict[str, Any] = {"visible": index == 0, "meta": name}
        ground = {
            "type": "surface",
            "x": numbers(panel.xs),
            "y": numbers(panel.ys),
            "z": numbers(heights),
            "surfacecolor": numbers(np.log10(heights)),
            "colorscale": "Viridis",
            "showscale": False,
            "hovertemplate": f"{_plain(name)} loss %{{z:.4g}} nats<br>"
            "at (%{x:.3g}, %{y:.3g})<extra></extra>",
        }
        data += [common | ground, common | _networks(panel, heights)]
    words = {"xaxis": panel.x, "yaxis": panel.y, "zaxis": "loss (nats, log scale)"}
    scene: dict[str, Any] = {
        name: {"title": {"text": text, "font": {"size": 11}}, "nticks": 5}
        for name, text in words.items()
    }
    ticks = _log_ticks([*panel.losses.values()])
    scene["zaxis"] |= {"type": "log", "tickvals": ticks}
    scene["zaxis"] |= {"ticktext": [f"{tick:g}" for tick in ticks]}
    # Far enough that the labels of the axes fit.
    scene["camera"] = {"eye": dict(zip("xyz", _EYE, strict=True))}
    scene["aspectmode"], scene["aspectratio"] = "manual", {"x": 1.2, "y": 1.2, "z": 0.8}
    return {"data": data, "layout": {"scene": scene}}


_EYE = (1.5, -1.7, 1.1)  # where a surface is seen from


def _from_left(panel: parts.LossSurface, x: float, y: float) -> float:
    """Returns how far to the right a point of the plane is seen."""
    sides = ((x, panel.xs), (y, panel.ys))
    along = [(at - ends.min()) / (np.ptp(ends) or 1.0) for at, ends in sides]
    return -_EYE[1] * along[0] + _EYE[0] * along[1]


def _log_ticks(losses: Sequence[np.ndarray]) -> list[float]:
    """Returns 1 of each decade of the losses; 1, 2 and 5 if they span less than two."""
    found = np.concatenate([values.ravel() for values in losses])
    found = found[np.isfinite(found) & (found > 0)]
    if not found.size:
        return [1.0]
    low, high = np.log10([found.min(), found.max()])
    steps = (1, 2, 5) if high - low < 2 else (1,)
    powers = range(int(np.floor(low)), int(np.ceil(high)) + 1)
    return [float(f"{step * 10.0**power:.3g}") for power in powers for step in steps]


def _networks(panel: parts.LossSurface, heights: np.ndarray) -> dict[str, Any]:
    """Returns pins in the surface, with the labels of the points above it.

    They rise from the nearest grid point. Neighbours, as they are seen, differ in
    length, so that their labels do not cover each other.
    """
    found = [
        (x, y, words)
        for series in panel.series
        for x, y, words in zip(series.x, series.mean, series.labels, strict=False)
        if words
    ]
    finite = heights[np.isfinite(heights)]
    low, high = (finite.min(), finite.max()) if finite.size else (1.0, 1.0)
    step = max(high / low, 2.0) ** 0.22
    found.sort(key=lambda point: _from_left(panel, *point[:2]))
    pins = []
    for place, (x, y, words) in enumerate(found):
        foot = heights[np.abs(panel.ys - y).argmin(), np.abs(panel.xs - x).argmin()]
        top = high * step ** (1 + place % 3)
        pins += [(x, y, foot, ""), (x, y, top, words), (np.nan,) * 3 + ("",)]
    xs, ys, zs, words = zip(*pins, strict=True) if pins else ((), (), (), ())
    return {
        "type": "scatter3d",
        "mode": "lines+markers+text",
        "x": numbers(xs),
        "y": numbers(ys),
        "z": numbers(zs),
        "text": list(words),
        "textposition": "top center",
        "marker": {"size": [4, 0, 0] * len(found), "color": style.COLORS[1]},
        "line": {"width": 3, "color": style.COLORS[1]},
        "textfont": {"color": style.COLORS[1]},
        "hoverinfo": "skip",
    }


def _at(axis: parts.Axis, which: str) -> str:
    """Returns the hover template of a position on an axis."""
    return f"%{{{which}}}" if axis.names else f"%{{{which}:.4g}}"


def _plain(words: str) -> str:
    """Escape words so that a hover template shows them literally."""
    return html.escape(words).replace("%{", "% {")


def _faint(color: str) -> str:
    """Returns a transparent version of a colour "#rrggbb"."""
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.18)"
