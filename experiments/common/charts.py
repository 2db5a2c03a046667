"""Panels and series shared by the figures of several studies."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kd_heuristics.plots import Axis, Chart, HeatMap, Series, maps, style

Arrays = Mapping[str, np.ndarray]


def through(points: Any, name: str = "", color: str = "", **options: Any) -> Series:
    """Makes a series through points [points, 2]."""
    x, y = np.reshape(points, (-1, 2)).T
    return Series(x, y, name, color or style.COLORS[0], **options)


def layers_axis(label: str, layers: Sequence[str] | np.ndarray) -> Axis:
    """Makes an axis whose places are layers."""
    return Axis(label, names=maps.short(list(map(str, layers))))


def along_layers(values: Any, name: str, color: str, **options: Any) -> Series:
    """Makes a series of a value for each layer: [layers] or [seeds, layers]."""
    places = np.arange(np.shape(values)[-1])
    return Series(places, values, name, color, marker=".", **options)


def diagonals(
    title: str,
    found: Mapping[str, tuple[np.ndarray, str]],
    layers: Sequence[str] | np.ndarray,
    measure: str,
    floor: np.ndarray,
    papers: Sequence[Series] = (),
) -> Chart:
    """Plots the similarity of each layer to itself in the other network.

    Args:
      title: title of the panel.
      found: `{name: ([seeds, layers, layers], color)}`; maps without a finite value are
        omitted.
      layers: names of the layers.
      measure: measure of similarity.
      floor: similarity of unrelated layers, [layers, layers].
      papers: series of the paper.
    """
    series = [
        along_layers(np.diagonal(values, axis1=-2, axis2=-1), name, color)
        for name, (values, color) in found.items()
        if np.isfinite(values).any()
    ]
    noise = np.arange(len(layers)), np.diagonal(floor)
    series.append(Series(*noise, "noise floor", style.DARK, line="dot"))
    y = Axis(f"similarity ({measure})", limits=(0, 1))
    return Chart(title, layers_axis("layer", layers), y, [*series, *papers])


def similarity_map(
    title: str, values: Any, layers: Any, y: str = "layer", x: str = "layer", **own: Any
) -> HeatMap:
    """Makes a map of a network's layers against those of another of the same form."""
    names = list(map(str, layers))
    return HeatMap(title, values, names, names, y=y, x=x, **own)
