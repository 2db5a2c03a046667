"""Similarity maps of all layers against all layers, and their differences."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:  # imported where a map is drawn, see `style`
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage


def heat_map(
    axes: "Axes",
    values: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str] | None = None,
    *,
    floor: np.ndarray | float | None = None,
    scale: Literal["similarity", "signed", "size"] = "similarity",
    limit: float | None = None,
) -> "AxesImage":
    """Draws similarities, or their differences, with layer names.

    Args:
      axes: where to draw.
      values: [rows, columns]; non-finite entries are grey.
      rows: layers of the first network, "00_conv" or "conv", the first on top.
      columns: layers of the second network; `None` uses `rows`.
      floor: similarity of unrelated layers (`similarity.noise_floor`), in the shape
        of `values` or one number; entries that do not exceed it get a dot.
      scale: "similarity" is in [0, 1]; "signed" is white at 0, red above, blue below;
        "size" goes from white to dark with the absolute values.
      limit: difference at the ends of the scale; `None` uses the largest of the map.

    Returns: the image, for a colour bar.
    """
    import matplotlib as mpl

    columns = columns or rows
    low, high = limits(values, scale, limit)
    name = {"similarity": "viridis", "signed": "RdBu_r", "size": "Greys"}[scale]
    shown = np.abs(values) if scale == "size" else values
    colors = mpl.colormaps[name].with_extremes(bad="0.8")
    image = axes.imshow(np.ma.masked_invalid(shown), cmap=colors, vmin=low, vmax=high)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    figure = axes.get_figure(root=True)
    assert figure is not None
    for side, names, length in (
        (axes.xaxis, columns, axes.bbox.width),
        (axes.yaxis, rows, axes.bbox.height),
    ):
        size, every = _labels(len(names), 72 * length / figure.dpi)
        places = np.arange(len(names))[::every]
        side.set_ticks(places, short(names)[::every], fontsize=size)
    axes.tick_params(axis="x", labelrotation=90)
    axes.tick_params(length=2, pad=1)
    if floor is not None:
        below = np.argwhere(np.asarray(shown) <= np.asarray(floor))
        axes.plot(*below.T[::-1], ".", color="w", markersize=1.5)
    return image


def limits(
    values: np.ndarray, scale: str, limit: float | None = None
) -> tuple[float, float]:
    """Returns the values at the ends of a scale; arguments as in `heat_map`.

    >>> limits(np.array([0.5, -2.0]), "signed"), limits(np.zeros(2), "size", 0.0)
    ((-2.0, 2.0), (0.0, 1.0))
    """
    top = limit or _largest(values)
    return {"similarity": (0.0, 1.0), "signed": (-top, top), "size": (0.0, top)}[scale]


def short(layers: Sequence[str]) -> list[str]:
    """Replaces the position in the network in names by the number among their kind.

    >>> short(["00_conv", "01_relu", "02_conv", "03FC"])
    ['conv1', 'relu', 'conv2', 'FC']
    """
    kinds = [name.lstrip("0123456789").lstrip("_") or name for name in layers]
    return [
        f"{kind}{kinds[:index].count(kind) + 1}" if kinds.count(kind) > 1 else kind
        for index, kind in enumerate(kinds)
    ]


def _labels(count: int, length: float) -> tuple[float, int]:
    """Returns the font size, and one in how many names to show side by side.

    >>> _labels(12, 200.0), _labels(36, 180.0)
    ((7.0, 1), (6.111111111111111, 2))

    Args:
      count: number of names.
      length: of the axis in points, before titles and labels take their part.
    """
    size = min(7.0, 220 / count)
    return size, max(1, -int(-1.2 * size * count // (0.9 * length)))


def _largest(values):
    finite = np.abs(values)[np.isfinite(values)]
    return float(finite.max()) if finite.size and finite.max() > 0 else 1.0
