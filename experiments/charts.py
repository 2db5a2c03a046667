"""Panels and series that the figures of several studies have."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kd_heuristics.plots import maps, style
from kd_heuristics.plots.figure import Axis, Chart, HeatMap, Series


def layers_axis(label: str, layers: Sequence[str]) -> Axis:
    """An axis whose places are layers."""
    return Axis(label=label, names=tuple(maps.short(list(map(str, layers)))))


def along_layers(values: Any, name: str, color: str, **options: Any) -> Series:
    """A value a layer: [layers], or [seeds, layers]."""
    places = np.arange(np.shape(values)[-1])
    return Series(x=places, y=values, name=name, color=color, marker=".", **options)


def diagonals(
    title: str,
    found: Mapping[str, tuple[np.ndarray, str]],
    layers: Sequence[str],
    measure: str,
    floor: np.ndarray | None = None,
    papers: Sequence[Series] = (),
) -> Chart:
    """Each layer against itself in the other network.

    Args:
      title: of the panel.
      found: name -> ([seeds, layers, layers], color); maps without a finite value are
        left out.
      layers: their names.
      measure: of similarity.
      floor: similarity of unrelated layers, [layers, layers].
      papers: of the paper.
    """
    series = [
        along_layers(np.diagonal(values, axis1=-2, axis2=-1), name, color)
        for name, (values, color) in found.items()
        if np.isfinite(values).any()
    ]
    if floor is not None:
        series.append(
            Series(
                x=np.arange(len(layers)),
                y=np.diagonal(floor),
                name="noise floor",
                color=style.DARK,
                line="dot",
            )
        )
    return Chart(
        title=title,
        x=layers_axis("layer", layers),
        y=Axis(label=f"similarity ({measure})", limits=(0, 1)),
        series=(*series, *papers),
    )


def similarity_map(title: str, values: Any, layers: Any, **options: Any) -> HeatMap:
    """A map of one network's layers against another's of the same form."""
    rows = tuple(map(str, layers))
    options = {"y": "layer", "x": "layer"} | options
    return HeatMap(title=title, values=values, rows=rows, columns=rows, **options)
