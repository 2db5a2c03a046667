"""One page that sets runs of a study beside each other."""

import dataclasses
import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kd_heuristics.plots import Chart, Figure, Panel, Series, draw, style
from kd_heuristics.report import findings, folder, page, pictures
from kd_heuristics.report.markup import badge, escape, number, table
from kd_heuristics.runs import descriptions, verdicts
from kd_heuristics.runtime import files
from kd_heuristics.runtime.errors import InputError

_LINES = ("solid", "dash", "dot")


def write_comparison(paths: Sequence[files.AnyPath], target: files.AnyPath) -> Any:
    """Write a page that compares runs of one study.

    It shows how their configs differ, each claim's effect in each run with the paired
    difference from the first run, and every figure with the runs drawn over each other.
    Differences pair runs by seed; their 95 % intervals are not corrected for the number
    of claims.

    Args:
      paths: run folders, or folders of run folders; at least two runs.
      target: path of the page.

    Returns: the path of the page.

    Raises:
      RunError: a path holds no run folder, or a file of it is damaged.
      InputError: there is only one run, they are of several studies, or one has no
        results.
    """
    found = page.read(paths)
    _check(found)
    names = [run.title for run in found]
    title = f"kd_heuristics: {' against '.join(names)}"
    parts = [
        f'<section id="questions"><h2>{escape(title)}</h2>',
        f'<p class="question">{escape(found[0].described.get("question") or "")}</p>',
        _differences(found),
        _claims(found),
        "</section>",
    ]
    with tempfile.TemporaryDirectory() as temporary:
        for name, figure in _figures(found).items():
            draw.save(figure, temporary, name)
            both = dataclasses.replace(
                found[0],
                title="comparison",
                path=Path(temporary),
                results=None,
                figures={name: figure},
            )
            parts.append(pictures.figure(both, name))
    page.write_body(title, "\n".join(parts), target)
    return files.path(target)


def _check(found: Sequence[folder.Run]) -> None:
    """Raise InputError unless these are several finished runs of one study."""
    if len(found) < 2:
        raise InputError(
            f"a comparison needs at least two runs, got {len(found)}; name a second "
            "run folder"
        )
    studies = {run.described.get("study", run.name): run for run in found}
    if len(studies) > 1:
        raise InputError(
            f"a comparison takes runs of one study, got {', '.join(sorted(studies))}"
        )
    for run in found:
        if run.results is None:
            raise InputError(f"{run.path} has no results; run its study again first")


def _differences(found: Sequence[folder.Run]) -> str:
    """Returns a table of the config fields in which the runs differ."""
    configs = [run.described["config"] for run in found]
    fields = dict.fromkeys(
        where
        for other in configs[1:]
        for where, *_ in descriptions.differences(configs[0], other)
    )
    if not fields:
        return "<p>Their configs are equal.</p>"
    rows = [
        [f"<code>{escape(field)}</code>", *(_field(own, field) for own in configs)]
        for field in fields
    ]
    head = ("field", *(run.title for run in found))
    return table(head, rows, f"Fields that differ: {len(rows)}")


def _field(config: dict[str, Any], path: str) -> str:
    value: Any = config
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return escape(json.dumps(value, ensure_ascii=False))


def _claims(found: Sequence[folder.Run]) -> str:
    """Returns a table of all claims: each run's effect, and paired differences."""
    first, *others = found
    by_run = [{claim["key"]: claim for claim in run.claims} for run in found]
    rows = []
    for key in dict.fromkeys(key for own in by_run for key in own):
        claims = [own.get(key) for own in by_run]
        words = next(claim["words"] for claim in claims if claim)
        cells = [_effect(claim) if claim else "-" for claim in claims]
        for run, claim in zip(others, claims[1:], strict=True):
            cells.append(escape(_paired(first, claims[0], run, claim)))
        rows.append([escape(words), *cells])
    head = [run.title for run in found]
    head += [f"{run.title} less {first.title}, paired" for run in others]
    return table(["claim", *head], rows, "Claims, with 95 % intervals of differences")


def _effect(claim: dict[str, Any]) -> str:
    return f"{escape(findings.effect(claim))} {badge(findings.verdict(claim))}"


def _paired(
    first: folder.Run, old: dict | None, run: folder.Run, new: dict | None
) -> str:
    """Returns the mean difference over the seeds of both runs, with its interval."""
    if old is None or new is None:
        return "-"
    before, after = _finite(first, old), _finite(run, new)
    shared = sorted(before.keys() & after.keys())
    if not shared:
        return "no seed in both"
    values = np.array([after[seed] - before[seed] for seed in shared])
    unit = "of seeds" if new["kind"] == "mostly" else new["unit"]
    words = number(float(values.mean()), unit)
    effect = new["smallest_effect"]
    ends = verdicts.interval("difference", effect, values)
    if ends is not None:
        words += " [{:.3g}, {:.3g}]".format(*ends)
    return f"{words}, {len(shared)} seeds"


def _finite(run: folder.Run, claim: dict[str, Any]) -> dict[int, float]:
    """Returns the statistic of each seed that has one."""
    found = findings.by_seed(claim, run.seeds)
    return {seed: value for seed, value in found.items() if value is not None}


def _figures(found: Sequence[folder.Run]) -> dict[str, Figure]:
    """Returns each figure with the panels of all runs."""
    out = {}
    for name in dict.fromkeys(name for run in found for name in run.figures):
        own = [
            (place, run.title, figure)
            for place, run in enumerate(found)
            for figure in [run.figures.get(name)]
            if isinstance(figure, Figure)
        ]
        if own:
            panels = [*_panels(own)]
            figure = own[0][2]
            size = {
                "columns": min(figure.columns, 3),
                "height": max(figure.height, 3.0),
            }
            out[name] = dataclasses.replace(figure, panels=panels, subtitle="", **size)
    return out


def _panels(found: Sequence[tuple[int, str, Figure]]) -> Iterator[Panel]:
    """Yields charts of the same title and axes as one, other panels one by one."""
    every = [
        (place, name, panel) for place, name, figure in found for panel in figure.panels
    ]
    merged: set[int] = set()
    for index, (place, name, panel) in enumerate(every):
        if index in merged:
            continue
        if not isinstance(panel, Chart):
            yield dataclasses.replace(panel, title=f"{panel.title} ({name})")
            continue
        series: list[Series] = []
        for other, (its, run, chart) in enumerate(every[index:], index):
            if isinstance(chart, Chart) and _axes(chart) == _axes(panel):
                merged.add(other)
                series += _named(its, run, chart, place)
        yield dataclasses.replace(panel, series=series)


def _axes(chart: Chart) -> tuple[Any, ...]:
    """Title and axes, which charts must share to be drawn as one."""
    axes = (chart.x, chart.y)
    return chart.title, *((axis.words, [*axis.names]) for axis in axes)


def _named(place: int, name: str, chart: Chart, first: int) -> Iterator[Series]:
    """Yields the series of a run's chart under its name, in its own line style.

    A chart with one series is told apart by colour too. The paper's series are those of
    the first run.
    """
    own = [series for series in chart.series if not series.paper]
    for series in chart.series:
        if series.paper:
            if place == first:
                yield series
            continue
        legend = series.legend if series.legend is not None else series.name
        words = f"{name}: {series.name}" if series.name else ""
        changes: dict[str, Any] = {
            "name": words or (name if len(own) == 1 else ""),
            "legend": f"{name}: {legend}" if legend else None if words else "",
            "filled": series.filled and place == first,
        }
        if series.line in _LINES:
            changes["line"] = _LINES[place % len(_LINES)]
        if len(own) == 1:
            changes["color"] = style.COLORS[place % len(style.COLORS)]
        yield dataclasses.replace(series, **changes)
