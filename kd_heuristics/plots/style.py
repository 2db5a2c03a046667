"""Appearance and saving of all figures."""

from typing import TYPE_CHECKING, Literal

import numpy as np

from kd_heuristics.runtime import files

# Studies and commands read the colours and draw last: each function imports matplotlib,
# so that help and the first line of progress need not wait for it.
if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, distinguishable in print and by colour-blind readers.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DARK = "#555555"  # legible on light and dark backgrounds
GREY = "#8a8a8a"
PAPER = {"color": GREY, "lw": 1.0, "zorder": 0}

_SETTINGS = {
    "font.size": 9,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "savefig.dpi": 160,
    "pdf.fonttype": 42,
}


def context():
    """Context with the settings; make, draw and save figures inside."""
    import matplotlib as mpl

    return mpl.rc_context(_SETTINGS)


def panels(rows: int, columns: int, width: float = 9.0, height: float = 3.2):
    """Makes `(figure, axes [rows, columns])`; `height` is that of a row, in inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def save(figure: "Figure", folder: files.AnyPath, name: str) -> None:
    """Writes `folder/figures/name.png` and `.pdf` atomically, without a date."""
    target = files.path(folder) / "figures"
    files.make_folder(target)
    for ending, date in (("png", "Software"), ("pdf", "CreationDate")):
        with files.whole(target / f"{name}.{ending}") as partial:
            figure.savefig(partial, metadata={date: None})
        figure.set_layout_engine("none")  # both have the places found for the first


def band(axes: "Axes", x, values, **options) -> None:
    """Draws the mean over seeds of `values` [seeds, points], with the range shaded."""
    values = np.atleast_2d(values)
    (line,) = axes.plot(x, values.mean(0), **options)
    if len(values) > 1 and np.isfinite(values).any():
        axes.fill_between(
            x, values.min(0), values.max(0), color=line.get_color(), alpha=0.2, lw=0
        )


def log_scale(axes: "Axes", which: Literal["x", "y"] = "y") -> None:
    """Makes an axis logarithmic, with plain decimals at 1, 2, 3 and 5 of each decade.

    It stays linear if nothing positive was drawn, as after a training diverged.
    """
    from matplotlib.ticker import LogLocator, NullFormatter

    least = axes.dataLim.minposx if which == "x" else axes.dataLim.minposy
    if not np.isfinite(least):
        return
    axes.set(**{f"{which}scale": "log"})
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())
