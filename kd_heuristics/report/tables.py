"""The numbers of a run folder as tidy tables: one row for each number."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from kd_heuristics.plots import Chart, Figure, HeatMap, LossSurface
from kd_heuristics.report import findings, folder

Row = dict[str, Any]

# The columns of each table, with what they hold.
COLUMNS = {
    "metrics": {
        "run": "path of the run folder",
        "training": "name of the training, without its seed",
        "seed": "seed of the network; empty if the training has none",
        "step": "number of training steps done",
        "metric": "name of the metric, as in metrics.jsonl",
        "value": "its value; empty if it was not finite",
    },
    "statistics": {
        "run": "path of the run folder",
        "claim": "key of the claim",
        "seed": "seed of the run",
        "value": "the claim's statistic for this seed; empty if it was not finite",
        "unit": "unit of the value",
        "counted": "yes up to the look of the verdict, no for seeds added later",
    },
    "claims": {
        "run": "path of the run folder",
        "claim": "key of the claim",
        "words": "the claim in words",
        "kind": "difference, as_good, equal or mostly",
        "main": "yes if the claim answers the study's question",
        "unit": "unit of the following numbers",
        "smallest_effect": "smallest effect that counts",
        "paper": "the paper's value; empty if it gives none",
        "seeds": "number of seeds in the mean",
        "mean": "mean over seeds; the share of seeds for a claim of kind mostly",
        "low": "lower end of the interval of the mean",
        "high": "upper end of the interval of the mean",
        "level": "share of such intervals that miss the truth",
        "verdict": "the verdict; preview before the first declared look",
    },
    "curves": {
        "run": "path of the run folder",
        "figure": "name of the figure",
        "panel": "title of the panel",
        "series": "name of the series",
        "paper": "yes for the paper's values",
        "seed": "seed; empty for values that belong to no single seed",
        "x": "place on the x axis, in the unit of x_label",
        "y": "value on the y axis, in the unit of y_label",
        "x_label": "label of the x axis",
        "y_label": "label of the y axis",
    },
    "maps": {
        "run": "path of the run folder",
        "figure": "name of the figure",
        "panel": "title of the map",
        "row": "name of the row",
        "column": "name of the column",
        "value": "value of the map, mean over seeds unless the title says otherwise",
    },
    "surfaces": {
        "run": "path of the run folder",
        "figure": "name of the figure",
        "panel": "title of the surface",
        "set": "set of images on which the loss was measured",
        "x": "coordinate along the first direction of the plane",
        "y": "coordinate along the second direction",
        "loss": "loss in nats; empty if it was not finite",
    },
}


def tidy(run: folder.Run, lines: Sequence[Mapping[str, Any]]) -> dict[str, list[Row]]:
    """Returns the tables of a run, `{table: rows}`, with the columns of `COLUMNS`.

    Args:
      run: as `folder.read` returns it. What an unfinished run lacks has no rows.
      lines: lines of metrics.jsonl, as `training.MetricsFile` reads them.
    """
    found: dict[str, list[Row]] = {name: [] for name in COLUMNS}
    found["metrics"] += _metrics(lines)
    for claim in run.claims:
        found["claims"].append(_claim(claim))
        found["statistics"] += _statistics(claim, run.seeds)
    for name, figure in run.figures.items():
        if isinstance(figure, Figure):
            for panel in figure.panels:
                own = {"figure": name, "panel": panel.title}
                if isinstance(panel, Chart):
                    found["curves"] += (own | row for row in _curves(panel, run))
                elif isinstance(panel, HeatMap):
                    found["maps"] += (own | row for row in _map(panel))
                elif isinstance(panel, LossSurface):
                    found["surfaces"] += (own | row for row in _surface(panel))
    path = str(run.path)
    return {
        name: [{"run": path, **row} for row in rows] for name, rows in found.items()
    }


def training_of(stage: str) -> tuple[str, str | None, str]:
    """Splits a stage of the metrics into training, seed and net, if it has them.

    >>> training_of("student-seed3"), training_of("student-seed3-net1")
    (('student', '3', ''), ('student', '3', '-net1'))
    >>> training_of("teacher")
    ('teacher', None, '')
    """
    named = re.fullmatch(r"(.+)-seed(\d+)(-net\d+)?", stage)
    return (named[1], named[2], named[3] or "") if named else (stage, None, "")


def _metrics(lines: Sequence[Mapping[str, Any]]) -> Iterator[Row]:
    for line in lines:
        stage = line["stage"]
        name, seed, net = training_of(stage)
        own = {"training": name + net, "seed": seed, "step": line["step"]}
        for metric, value in line.items():
            if metric not in ("stage", "step"):
                yield own | {"metric": metric, "value": value}


def _claim(claim: dict[str, Any]) -> Row:
    low, high = claim["interval"] or (None, None)
    names = ("words", "kind", "unit", "smallest_effect", "paper", "mean", "level")
    return {name: claim[name] for name in names} | {
        "claim": claim["key"],
        "main": _yes(claim["main"]),
        "seeds": findings.num_seeds(claim),
        "low": low,
        "high": high,
        "verdict": findings.verdict(claim),
    }


def _statistics(claim: dict[str, Any], seeds: Sequence[int]) -> Iterator[Row]:
    own = {"claim": claim["key"], "unit": claim["unit"]}
    values = findings.by_seed(claim, seeds)
    for place, (seed, value) in enumerate(values.items()):
        counted = _yes(place < len(claim["values"]))
        yield own | {"seed": seed, "value": value, "counted": counted}


def _curves(panel: Chart, run: folder.Run) -> Iterator[Row]:
    seeds = run.seeds
    for series in panel.series:
        rows = np.atleast_2d(series.y)
        by_seed = not series.paper and series.y.ndim == 2 and len(rows) == len(seeds)
        own = {
            "series": series.name,
            "paper": _yes(series.paper),
            "x_label": panel.x.words,
            "y_label": panel.y.words,
        }
        for place, row in enumerate(rows):
            seed = seeds[place] if by_seed else None
            for x, y in zip(series.x, row, strict=True):
                yield own | {"seed": seed, "x": x, "y": y}


def _map(panel: HeatMap) -> Iterator[Row]:
    for row, values in zip(panel.rows, np.asarray(panel.values), strict=True):
        for column, value in zip(panel.columns, values, strict=True):
            yield {"row": row, "column": column, "value": value}


def _surface(panel: LossSurface) -> Iterator[Row]:
    for name, losses in panel.losses.items():
        for y, row in zip(np.asarray(panel.ys), np.asarray(losses), strict=True):
            for x, loss in zip(np.asarray(panel.xs), row, strict=True):
                yield {"set": name, "x": x, "y": y, "loss": loss}


def _yes(value: bool) -> str:
    return "yes" if value else "no"
