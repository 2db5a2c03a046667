"""Figures 5 and 6 of the paper: accuracies over lengths, ours and theirs."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.funmatch import published
from experiments.funmatch.arms import ARMS
from kd_heuristics.plots import Axis, Chart, Figure, Series, Table, style

Lines = Mapping[str, Mapping[int, Any]]  # accuracies in per cent by arm and epochs
# Figure 5: what makes short trainings better, each beside what it is compared with.
OPTIMIZERS = ("same/ic", "mix", "shampoo_same", "shampoo")
FIRST_WEIGHTS = ("same/ic", "pretrained")
IMAGES = ("mix", "related", "others")
_COLORS = {
    "same/ic": style.COLORS[0],
    "mix": style.COLORS[1],
    "shampoo_same": style.COLORS[2],
    "shampoo": style.COLORS[3],
    "pretrained": style.COLORS[4],
    "related": style.COLORS[2],
    "others": style.COLORS[3],
}


def cheaper(ours: Lines, distances: Lines | None = None) -> Figure:
    """Plots Figure 5.

    Args:
      ours: accuracies of one value, or one for each seed.
      distances: from the teacher in nats, likewise; `None` plots none.
    """
    compared = ("optimizer", OPTIMIZERS), ("first weights", FIRST_WEIGHTS)
    panels = [_chart(f"Ours: {what}", ours, arms) for what, arms in compared]
    if distances is not None:
        y = Axis("test KL from the teacher", "nats")
        panels += [
            _chart(f"Ours: {what}, distance", distances, arms, y=y)
            for what, arms in compared
        ]
    panels += [_papers(f"The paper's: {what}", arms) for what, arms in compared]
    panels = [
        dataclasses.replace(panel, title=f"({letter}) {panel.title}")
        for letter, panel in zip("abcdef", panels, strict=False)
    ]
    caption = (
        "Figure 5: Shampoo and pretrained students over epochs, ours and on ImageNet"
    )
    claims = ["shampoo", "first-weights"]
    return Figure("Shorter trainings", caption, panels, claims, height=3.4)


def images(ours: Mapping[str, Lines]) -> Figure:
    """Plots Figure 6.

    Args:
      ours: accuracies, as of `cheaper`, of each set.
    """
    panels: list[Any] = [
        _chart(f"({letter}) Ours: {name}", own, IMAGES, {"mix": "its own images"})
        for letter, (name, own) in zip("abcdef", ours.items(), strict=False)
    ]
    cells = [
        [
            row.preset,
            "its own images" if row.arm == "mix" else row.name,
            ", ".join(f"{value:g}" for value in row.cells.values()),
            row.note,
        ]
        for row in published.figure6()
    ]
    head = ["set", "images", "accuracy (%)", "source"]
    title = "The paper's: students of other images"
    panels.append(Table(title, head, cells, paper=True))
    caption = "Figure 6: students of a teacher that was shown other sets' images"
    size: dict[str, Any] = {"columns": len(ours), "width": 4.5 * max(2, len(ours))}
    return Figure("Images of other sets", caption, panels, height=3.4, **size)


def _papers(title: str, arms: Sequence[str]) -> Chart:
    """Plots the paper's arms over lengths, on ImageNet."""
    found = {
        row.arm: row.cells for row in published.table3() if row.preset == "imagenet"
    }
    return dataclasses.replace(_chart(title, found, arms), paper=True)


def _chart(
    title: str,
    lines: Lines,
    arms: Sequence[str],
    words: Mapping[str, str] | None = None,
    y: Axis | None = None,
) -> Chart:
    """Plots arms over lengths; one that was not trained is named in the title."""
    series, missing = [], []
    for arm in arms:
        name = (words or {}).get(arm, ARMS[arm].words)
        found = lines.get(arm, {})
        if not found:
            missing.append(name)
            continue
        epochs = sorted(found)
        values = np.array([np.atleast_1d(found[e]) for e in epochs], float).T
        series.append(Series(epochs, values, name, _COLORS[arm], marker="o"))
    ticks = sorted({e for arm in arms for e in lines.get(arm, {})})
    if missing:
        title = f"{title} (not run: {', '.join(missing)})"
    x = Axis("epochs", scale="log", ticks=ticks)
    return Chart(title, x, y or Axis("test accuracy", "%"), series)
