"""Still images of figures, drawn with matplotlib."""

import textwrap
from collections.abc import Callable, Sequence
from typing import Any, Literal

import matplotlib.figure
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, NullLocator

from kd_heuristics.plots import maps, style, surface
from kd_heuristics.plots import panels as parts
from kd_heuristics.plots.figure import Figure
from kd_heuristics.runtime import files

_DASHES = {"solid": "-", "steps": "-", "dash": "--", "dot": ":", "none": "none"}


def save(figure: Figure, folder: files.AnyPath, name: str) -> None:
    """Draws a figure to `folder/figures/NAME.png` and `.pdf`."""
    with style.context():
        style.save(picture(figure), folder, name)


def picture(figure: Figure) -> matplotlib.figure.Figure:
    """Draws a figure, to be saved within `style.context()`."""
    drawn = [part for panel in figure.panels if panel.still for part in _parts(panel)]
    columns = min(figure.columns, len(drawn))
    rows = -(-len(drawn) // columns)
    page, grid = style.panels(rows, columns, figure.width, figure.height)
    axes = list(grid.flat)
    for ax in axes[len(drawn) :]:
        ax.remove()
    room = 90 * figure.width / columns  # length of a title, in letters of one point
    size = np.clip(room / max(max(len(title), 1) for _, title, _ in drawn), 6.0, 10.0)
    images = []
    for index, (ax, (panel, title, draw)) in enumerate(zip(axes, drawn, strict=False)):
        ax.set_title(title, loc="left", fontsize=size)
        image = draw(ax)
        ax.set_ylabel(_wrapped(ax.get_ylabel(), figure.height))
        if isinstance(panel, parts.HeatMap):
            images.append((ax, panel, image))
        if index % columns and _rows(panel) == _rows(drawn[index - 1][0]) != ():
            ax.set_ylabel("")  # the same as in the panel on the left
            ax.tick_params(labelleft=isinstance(panel, parts.HeatMap))
    _color_bars(page, axes, images)
    if figure.legend_below:
        _legend_below(page, axes[: len(drawn)])
    words = [*filter(None, (figure.title, figure.subtitle))]
    fits = sum(map(len, words)) < 15 * figure.width
    page.suptitle((" - " if fits else "\n").join(words), fontsize=9)
    return page


def _wrapped(label: str, height: float) -> str:
    """Breaks the lines of a y label that are longer than a panel is high, in inches."""
    room = max(int(11 * height), 16)  # letters; a fourth of a panel is not axis
    lines = [textwrap.wrap(line, room) or [""] for line in label.splitlines()]
    return "\n".join(word for line in lines for word in line)


def _legend_below(page: Any, axes: Sequence[Axes]) -> None:
    """Draws one legend for the panels without their own, each entry once."""
    entries = {}
    for ax in axes:
        if ax.get_legend() is None:
            handles, labels = ax.get_legend_handles_labels()
            entries = dict(zip(labels, handles, strict=True)) | entries
    if entries:
        columns = -(-len(entries) // -(-len(entries) // 5))
        where = {"loc": "outside lower center", "ncols": columns, "fontsize": 7}
        page.legend(entries.values(), entries.keys(), **where)


def _parts(panel: Any) -> list[tuple[Any, str, Callable]]:
    """Returns (panel, title, drawing) for each axes; a surface has one for each set."""
    if isinstance(panel, parts.Chart):
        return [(panel, panel.title, lambda ax: _chart(ax, panel))]
    if isinstance(panel, parts.HeatMap):
        return [(panel, panel.title, lambda ax: _heat_map(ax, panel))]
    return [
        (panel, f"{name} loss", lambda ax, name=name: _surface(ax, panel, name))
        for name in panel.losses
    ]


def _rows(panel: Any) -> tuple:
    """Returns the text on the y axis, () if its places have no names."""
    if isinstance(panel, parts.HeatMap):
        return panel.y, *panel.rows
    return tuple(panel.y.names) if isinstance(panel, parts.Chart) else ()


def _chart(ax: Axes, chart: parts.Chart) -> None:
    papers = False
    for series in chart.series:
        if not series.hidden:
            label = series.name if series.legend is None else series.legend
            if series.paper and series.legend is None:
                label, papers = "" if papers else "paper (grey)", True
            _series(ax, series, label or "_nolegend_")
    for line in chart.references:
        draw = ax.axhline if line.axis == "y" else ax.axvline
        label = line.name or "_nolegend_"
        draw(line.value, color=style.DARK, lw=0.9, ls=":", label=label)
    if any(one.labels for one in chart.series):
        ax.margins(0.1)  # room for the labels of the outermost points
    _axis(ax, "x", chart.x)
    _axis(ax, "y", chart.y)
    _labels(ax, [one for one in chart.series if not one.hidden], (6, 4))
    entries = len(ax.get_legend_handles_labels()[1])
    if chart.legend and entries:
        size = 8 if entries < 5 else 6.5
        ax.legend(fontsize=size, frameon=True, framealpha=0.7, edgecolor="none")


def _series(ax: Axes, series: parts.Series, label: str) -> None:
    options: dict[str, Any] = {"color": series.color, "label": label, "lw": 1.2}
    if series.paper:
        options |= style.PAPER | {"ms": 3}
    if series.line == "bars":
        ax.bar(series.x, series.mean, color=options["color"], label=label)
    else:
        options |= {"ls": _DASHES[series.line], "marker": series.marker}
        options.setdefault("ms", {"*": 9, "D": 5, "o": 5}.get(series.marker, 4))
        if series.line == "steps":
            options["drawstyle"] = "steps-post"
        if not series.filled:
            options["mfc"] = "none"
        style.band(ax, series.x, series.y, **options)


def _labels(ax: Axes, found: Sequence[parts.Series], offset: tuple[int, int]) -> None:
    """Writes labels on a side of their points where they cover no earlier one."""
    taken: list[np.ndarray] = []
    for series in found:
        for x, y, words in zip(series.x, series.mean, series.labels, strict=False):
            if not words or not np.isfinite([x, y]).all():
                continue
            place = ax.transData.transform((x, y)) * 72 / ax.figure.dpi
            shift = _free_shift(place, words, offset, taken)
            if shift is not None:
                own: dict[str, Any] = {"color": series.color, "fontsize": 7}
                more = {"textcoords": "offset points", "xytext": shift}
                ax.annotate(words, (x, y), **more, **own)


def _free_shift(
    place: np.ndarray, words: str, offset: tuple[int, int], taken: list[np.ndarray]
) -> tuple[float, float] | None:
    """Returns a label's shift from its point, in points; `None` if no side is free.

    Boxes [left, bottom, right, top] of labels are appended to `taken`.
    """
    size = np.array([0.6 * 7 * len(words), 9])
    for right in (offset[0], -offset[0] - size[0]):
        for up in (offset[1], -offset[1] - 6):
            corner = place + np.array([right, up])
            box = np.concatenate([corner, corner + size])
            apart = ((box[:2] > b[2:]).any() or (box[2:] < b[:2]).any() for b in taken)
            if all(apart):
                taken.append(box)
                return right, up
    return None


def _axis(ax: Axes, which: Literal["x", "y"], axis: parts.Axis) -> None:
    """Set labels, scale, ticks and limits of an axis."""
    own = ax.xaxis if which == "x" else ax.yaxis
    own.set_label_text(axis.words)
    if axis.scale == "log":
        style.log_scale(ax, which)
    elif axis.scale == "symlog":
        set_scale = ax.set_xscale if which == "x" else ax.set_yscale
        set_scale("symlog", linthresh=10)
        own.set_major_formatter("{x:,g}")
    if axis.names:
        size = min(8.0, 220 / len(axis.names))
        turn = 90 if which == "x" else 0
        own.set_ticks(range(len(axis.names)), axis.names, fontsize=size, rotation=turn)
        if which == "y":
            ax.set_ylim(len(axis.names) - 0.4, -0.6)
    elif axis.ticks:
        size = 8 if len(axis.ticks) < 6 else 6.5
        words = [f"{tick:,.10g}" for tick in axis.ticks]
        own.set_ticks(axis.ticks, words, fontsize=size)
        own.set_minor_locator(NullLocator())
    elif axis.bare:
        own.set_ticks([])
    elif which == "x" and _whole(ax):
        own.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10]))
    low, high = axis.limits
    if low is not None or high is not None:
        (ax.set_xlim if which == "x" else ax.set_ylim)(low, high)


def _whole(ax: Axes) -> bool:
    """Whether all places on the x axis are whole numbers, such as epochs."""
    places = [np.asarray(line.get_xdata(), float) for line in ax.lines]
    return all(np.array_equal(x, np.round(x)) for x in places) and len(places) > 0


def _heat_map(ax: Axes, panel: parts.HeatMap) -> Any:
    more: dict[str, Any] = {"scale": panel.scale, "limit": panel.limit}
    sides = panel.rows, panel.columns
    image = maps.heat_map(ax, panel.values, *sides, floor=panel.floor, **more)
    aspect = "equal" if panel.square else "auto"
    ax.set(aspect=aspect, xlabel=panel.x, ylabel=panel.y)
    return image


def _surface(ax: Axes, panel: parts.LossSurface, name: str) -> None:
    surface.contours(ax, panel.xs, panel.ys, panel.losses[name])
    note = " (stretched)" if surface.stretched(panel.xs, panel.ys) else ""
    ax.set(xlabel=panel.x, ylabel=panel.y + note)
    for series in panel.series:
        _series(ax, series, "_nolegend_")
    _labels(ax, panel.series, (5, -10))  # the third point lies near the upper edge


def _color_bars(page: Any, axes: Sequence[Axes], images: Sequence[Any]) -> None:
    """Draws a colour bar for each scale, beside the panels that share it."""
    bars: dict[tuple, list] = {}
    for ax, panel, image in images:
        limits = image.get_clim()
        bars.setdefault((panel.scale, panel.label, limits), []).append((ax, image))
    spans = {
        key: {*range(axes.index(found[0][0]), axes.index(found[-1][0]) + 1)}
        for key, found in bars.items()
    }
    for key, found in bars.items():
        beside = spans[key].union(*(s for s in spans.values() if s & spans[key]))
        page.colorbar(
            found[0][1], ax=[axes[i] for i in sorted(beside)], label=key[1], shrink=0.6
        )
