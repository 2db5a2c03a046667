"""Contours of a loss over a plane."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm

# Equal scales would draw a plane with a larger ratio of its sides as a line.
_LONGEST = 4


def stretched(xs: Any, ys: Any) -> bool:
    """Whether `contours` draws a plane with axes of different scales.

    >>> stretched([0, 30], [-5, 5]), stretched([0, 45], [0, 1])
    (False, True)
    """
    sides = np.ptp(xs), np.ptp(ys)
    return bool(max(sides) > _LONGEST * min(sides))


def contours(ax: Axes, xs: Any, ys: Any, losses: Any) -> None:
    """Draws filled contours of log loss with a colour bar, or a note if none is finite.

    Both axes have one scale, unless the plane is `stretched`.

    Args:
      ax: where to draw.
      xs: [columns].
      ys: [rows].
      losses: [rows, columns].
    """
    losses = np.ma.masked_invalid(losses)
    if not losses.count():
        ax.text(0.5, 0.5, "no finite loss", transform=ax.transAxes, ha="center")
        return
    low, high = float(losses.min()), float(losses.max())
    low = max(low, 1e-6 * high)  # a loss of 0 has no logarithm
    levels = np.geomspace(low, max(high, 1.001 * low), 21)
    filled = ax.contourf(
        xs,
        ys,
        np.ma.clip(losses, low, None),
        levels=levels,
        norm=LogNorm(levels[0], levels[-1]),
        cmap="viridis",
    )
    bar = ax.figure.colorbar(filled, ax=ax, label="nats, log scale", shrink=0.8)
    ticks = levels[::5].tolist()
    bar.set_ticks(ticks, labels=_apart(ticks))
    ax.grid(visible=False)
    if not stretched(xs, ys):
        ax.set_aspect("equal", adjustable="box")


def _apart(values: list[float]) -> list[str]:
    """Returns numbers with as few digits as tell them apart, at least two.

    >>> _apart([1.681, 1.684, 1.7]), _apart([0.01, 10.0])
    (['1.681', '1.684', '1.7'], ['0.01', '10'])
    """
    digits, words = 1, [""]
    while len({*words}) < len(values) and digits < 17:
        digits += 1
        words = [f"{value:.{digits}g}" for value in values]
    return words
