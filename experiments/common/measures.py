"""The figure that shows what other measures of similarity say of a study's maps."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from experiments.common import maps
from experiments.common.charts import Arrays
from kd_heuristics.plots import Axis, Chart, Figure, HeatMap, Reference, Series, style

CAPTION = (
    "Do other measures agree? Calibrated maps (0: unrelated layers, 1: identical), and "
    "the statistics of the claims by each measure"
)


def figure(
    config: Mapping[str, Any],
    results: Mapping[str, Any],
    arrays: Arrays,
    name: str,
    draw: Callable[..., HeatMap],
) -> Figure:
    """Draws one map raw and calibrated by each measure, and the claims' statistics.

    Args:
      config: with "measure", the study's own.
      results: with "claims", and "similarities_by_measure" of `maps.by_measure`.
      arrays: maps [seeds, rows, columns] under "NAME" and "NAME/cka/calibrated".
      name: of the map.
      draw: makes a panel of a title, a map [rows, columns], and a `label`.
    """
    own = config["measure"]
    letters = iter("abcdefgh")

    def panel(title: str, key: str) -> HeatMap:
        words = f"({next(letters)}) {title}"
        return draw(words, arrays[key].mean(0), label="similarity")

    panels: list[HeatMap | Chart] = [panel(f"{own}, raw", name)]
    panels += [
        panel(f"{measure}, calibrated", f"{name}{ending}")
        for measure, ending in maps.endings(own).items()
    ]
    found = results["similarities_by_measure"]
    rows = {
        claim["key"]: found[statistic]
        for claim in results["claims"]
        for statistic in [claim["statistic"] or claim["key"]]
        if statistic in found and found[statistic][own]["mean"] is not None
    }
    if rows:
        title = f"({next(letters)}) Statistics, calibrated"
        panels.append(_statistics(title, rows, [*maps.endings(own)]))
    return Figure(
        "Other measures, mean over seeds",
        CAPTION,
        panels,
        [*rows],
        columns=4,
        width=12.0,
    )


def _statistics(title: str, rows: Mapping[str, Any], measures: Sequence[str]) -> Chart:
    """Plots each statistic's mean by each measure, and how many signs agree."""
    series = []
    for color, measure in zip(style.COLORS, measures, strict=False):
        means = [row[measure]["mean"] for row in rows.values()]
        places = np.arange(len(rows), dtype=float)
        own: dict[str, Any] = {"line": "none", "marker": "o"}
        series.append(Series(np.array(means, float), places, measure, color, **own))
    names = [
        f"{key.rpartition('/')[2]}\n{agreeing(row, measures)} of {len(measures)} agree"
        for key, row in rows.items()
    ]
    x = Axis("difference of similarities")
    zero = Reference(0, axis="x")
    return Chart(title, x, Axis(names=names), series, [zero])


def agreeing(row: Mapping[str, Any], measures: Sequence[str]) -> int:
    """How many measures give a statistic's mean the sign that the first gives it.

    >>> row = {"svcca": {"mean": 0.2}, "cca": {"mean": -0.1}, "cka": {"mean": None}}
    >>> agreeing(row, ["svcca", "cca", "cka"])
    1
    """
    means = [row[measure]["mean"] for measure in measures]
    return sum(m is not None and bool(np.sign(m) == np.sign(means[0])) for m in means)
