"""Section of a study on the page: claims, figures, protocol, environment, failure."""

import base64
import dataclasses
import io
from typing import Any

from PIL import Image

from kd_heuristics import runs
from kd_heuristics.plots import Figure, FigureError, Table, stored
from kd_heuristics.report import findings, live, reading
from kd_heuristics.report.markup import details, embedded_json, escape, fields, table

NOT_FINISHED = '<p class="bad">Not finished: run the same command again.</p>'


@dataclasses.dataclass(frozen=True)
class Run:
    """Contents of a run folder.

    Attributes:
      name: name of the study.
      title: title on the page: the name, with the preset's if the name is not unique.
      path: path of the folder.
      described: config.json.
      results: results.json; None if the run failed or did not finish.
      error: error.json, or None.
      record: environment.json; {} if it is missing.
      figures: figures by name, in their order; an error in place of a damaged one.
    """

    name: str
    title: str
    path: Any
    described: dict[str, Any]
    results: dict[str, Any] | None
    error: dict[str, str] | None
    record: dict[str, Any]
    figures: dict[str, Figure | FigureError]

    @property
    def claims(self) -> list[dict[str, Any]]:
        """Judged claims; [] if there are no results."""
        return [] if self.results is None else self.results.get("claims") or []

    @property
    def seeds(self) -> range:
        """The seeds of the run.

        Raises:
          RunError: the config names none.
        """
        config = self.described["config"]
        first, count = config.get("first_seed", 0), config.get("seeds", 1)
        if type(first) is not int or type(count) is not int:
            raise runs.RunError(
                f"{self.path / 'config.json'} is damaged: first_seed and seeds must be "
                f"whole numbers, got {first!r} and {count!r}"
            )
        return range(first, first + count)


def read(path: Any, title: str) -> Run:
    """Read what a page needs from a run folder, under a title.

    Raises:
      RunError: a file of the folder is damaged.
    """
    folder = runs.RunFolder(path)
    error = reading.checked(folder, "error.json")
    described = reading.checked(folder, "config.json") or {"config": {}}
    results = None if error is not None else _results(folder, described)
    return Run(
        name=path.name,
        title=title,
        path=path,
        described=described,
        results=results,
        error=error,
        record=reading.checked(folder, "environment.json") or {},
        figures=_read_figures(path / "figures"),
    )


def _results(folder: runs.RunFolder, described: dict[str, Any]) -> dict | None:
    """Returns a folder's results; without claims if another version's differ."""
    try:
        return reading.checked(folder, "results.json")
    except runs.RunError:
        if runs.other_format(described) is None:
            raise
        return {}


def html(run: Run) -> str:
    """Returns the section of a study."""
    parts = [
        f'<section id="{escape(run.title)}"><h2>{escape(run.title)}</h2>',
        f'<p class="question">{escape(run.described.get("question") or "")}</p>',
    ]
    if there := runs.other_format(run.described):
        words = f"The run folder has {escape(there)}, this version's is {runs.FORMAT}"
        parts.append(f'<p class="bad">{words}: what it lacks is not shown.</p>')
    if run.error is not None:
        parts.append(failure(run.error))
    elif run.results is None:
        parts.append(NOT_FINISHED)
    else:
        parts.append(findings.claims_tables(run.claims, run.title))
        said = findings.after_looks(run.results), findings.failures(run.results)
        parts += [f"<p>{escape(words)}</p>" for words in said if words]
        parts += [figure(run, name) for name in figures(run)]
    parts += [_protocol(run.described), _deviations(run.described)]
    parts += [_environment(run.record)]
    parts.append(details("Preset: every field", _preset(run)))
    return "\n".join([*parts, "</section>"])


def figures(run: Run) -> list[str]:
    """Returns the names of a run's figures, then of still images without data."""
    drawn = {path.stem for path in (run.path / "figures").glob("*.png")}
    return [*run.figures, *sorted(drawn - {*run.figures})]


def figure(run: Run, name: str, place: str = "") -> str:
    """Returns a figure: the still image, interactive panels, and tables.

    Args:
      run: the study's run.
      name: name of the file, without its suffix.
      place: prefix that distinguishes a second copy on the page from the first.
    """
    found = run.figures.get(name)
    caption, alt, claims = name.replace("_", " ").capitalize(), "", []
    panels, more = [], ""
    if isinstance(found, Figure):
        caption, alt = found.caption, found.alt
        claims = findings.chosen(run.claims, found.claims)
        panels = live.panels(found, findings.words(claims, alt or caption))
        more = _tables(found)
    elif found is not None:
        words = f"The data of this figure are damaged: {found}"
        more = f'<p class="bad">{escape(words)}</p>'
    alt = findings.words(claims, f"{alt or caption}, study {run.title}")
    still = _still(run.path / "figures" / f"{name}.png", escape(alt))
    drawn = "".join(
        f'<div class="panel {panel["kind"]}"><h4>{escape(panel["title"])}</h4>'
        '<div class="plot"></div><output class="readout" aria-live="polite"></output>'
        f'<script type="application/json">{embedded_json(panel)}</script></div>'
        for panel in panels
    )
    kind = "with-live" if panels else "still-only"
    return (
        f'<figure class="{kind}" id="{escape(f"{place}{run.title}-{name}")}">'
        f'<div class="live">{drawn}</div>{still}{more}'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _still(path: Any, alt: str) -> str:
    """Embed an image with the same pixels as WebP, under half the size of PNG."""
    packed = io.BytesIO()
    try:
        with path.open("rb") as stream, Image.open(stream) as image:
            image.convert("RGB").save(packed, "WEBP", lossless=True, method=2)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return f'<p class="bad still">The file of this figure is damaged. {alt}</p>'
    data = base64.b64encode(packed.getvalue()).decode()
    return f'<img class="still" alt="{alt}" src="data:image/webp;base64,{data}">'


def failure(error: dict[str, str]) -> str:
    """Returns an error in words, with its traceback if one was recorded."""
    said = f"Failed: {escape(error['error'])}: {escape(error['message'])}"
    trace = error.get("traceback") or ""
    more = details("Traceback", f"<pre>{escape(trace)}</pre>") if trace else ""
    return f'<p class="bad">{said}</p>{more}'


def _read_figures(folder: Any) -> dict[str, Figure | FigureError]:
    """Returns the stored figures by name in their order, errors for damaged ones."""
    found: dict[str, Figure | FigureError] = {}
    for path in sorted(folder.glob("*.json")):
        try:
            found[path.stem] = stored.load(path)
        except FigureError as error:
            found[path.stem] = error
    last = len(found)
    return dict(sorted(found.items(), key=lambda item: getattr(item[1], "place", last)))


def _tables(found: Figure) -> str:
    """Returns the tables of a figure, side by side."""
    parts = [
        table([*panel.head], [[*map(escape, row)] for row in panel.rows], panel.title)
        for panel in found.panels
        if isinstance(panel, Table)
    ]
    return f'<div class="side">{"".join(parts)}</div>' if parts else ""


def _protocol(described: dict[str, Any]) -> str:
    """Returns a table of the paper's values, the run's, and why they differ."""
    rows = described.get("protocol")
    if not rows:
        return ""
    names = ("field", "paper", "source", "ours", "status")
    cells = [[escape(row[name]) for name in names] for row in rows]
    head = ("field", "paper's value", "source", "this run", "status")
    words = "Protocol: the paper's value, ours, and why they differ"
    return details(words, table(head, cells, "Protocol"))


def _deviations(described: dict[str, Any]) -> str:
    """Returns a table of the fields that differ from the paper's preset."""
    changes = described.get("deviations")
    if not changes:
        return ""
    rows = [
        (escape(name), escape(ours), escape(papers))
        for name, (ours, papers) in changes.items()
    ]
    head = ("field", "this run", "paper's preset")
    body = table(head, rows, "Deviations")
    preset = described.get("paper_preset") or ""
    words = f"Deviations: {len(rows)} fields differ from the paper's preset {preset}"
    return details(words.strip(), body)


def _preset(run: Run) -> str:
    return fields(run.described["config"], f"Preset of {run.title}")


def _environment(record: dict[str, Any]) -> str:
    """Returns the last invocation's hardware, time, command and versions."""
    if not record:
        return ""
    last = record["invocations"][-1]
    seconds = sum(entry.get("seconds") or 0 for entry in record["invocations"])
    devices = escape(", ".join(last["devices"]))
    line = (
        f"<p>Ran on {devices} ({escape(last.get('cpu_cores'))} CPU cores), "
        f"{seconds:.0f} s in finished invocations, resumed "
        f"{escape(record['resumes'])} times. Again: "
        f"<code>{escape(last['command'])}</code></p>"
    )
    return (
        line
        + _accepted(last.get("accepted_code"))
        + details("Environment", fields(last, "Environment"))
    )


def _accepted(accepted: dict[str, list[str]] | None) -> str:
    """Returns a table of parts that other code made and the run accepted."""
    if not accepted:
        return ""
    rows = [(escape(what), escape(", ".join(m))) for what, m in accepted.items()]
    words = f"Made by other code, and accepted: {len(rows)} of its parts"
    head = ("part", "modules that differ")
    return f'<p class="bad">{words}.</p>' + table(head, rows, words)
