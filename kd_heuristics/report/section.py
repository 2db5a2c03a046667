"""A study on the page: claims, figures, protocol, environment, failure."""

import base64
import dataclasses
import io
from typing import Any

from PIL import Image

from kd_heuristics import runs
from kd_heuristics.report import findings, questions, reading
from kd_heuristics.report.markup import details, embedded_json, escape, fields, table
from kd_heuristics.report.panels import PANELS


@dataclasses.dataclass(frozen=True)
class Run:
    """A run folder, read.

    Attributes:
      name: of the study.
      title: what the page calls it: its name, with the preset's where several have it.
      path: of the folder.
      described: config.json.
      results: results.json; None where the run failed or did not finish.
      error: error.json, if any.
      record: environment.json, {} where it is missing.
      panels: figure -> panels to look into.
    """

    name: str
    title: str
    path: Any
    described: dict[str, Any]
    results: dict[str, Any] | None
    error: dict[str, str] | None
    record: dict[str, Any]
    panels: dict[str, list[dict[str, Any]]]

    @property
    def claims(self) -> list[dict[str, Any]]:
        """Judged claims; [] where there are no results."""
        return [] if self.results is None else self.results.get("claims") or []


def read(path: Any, title: str) -> Run:
    """What a page needs of a run folder, and calls by `title`.

    Raises:
      RunError: a file of it is damaged.
    """
    folder = runs.RunFolder(path)

    error = reading.checked(folder, "error.json")
    results = reading.checked(folder, "results.json")
    if error is not None:
        results = None
    run = Run(
        name=path.name,
        title=title,
        path=path,
        described=reading.checked(folder, "config.json") or {"config": {}},
        results=results,
        error=error,
        record=reading.checked(folder, "environment.json") or {},
        panels={},
    )
    return dataclasses.replace(run, panels=_panels(run, folder))


def html(run: Run) -> str:
    """The section of a study."""
    parts = [
        f'<section id="{escape(run.title)}"><h2>{escape(run.title)}</h2>',
        f'<p class="question">{escape(run.described.get("question") or "")}</p>',
    ]
    if run.error is not None:
        parts.append(failure(run.error))
    elif run.results is None:
        parts.append('<p class="bad">Not finished: run the same command again.</p>')
    else:
        parts.append(findings.claims_table(run.claims, f"Claims of {run.title}"))
        parts += [figure(run, name) for name in figures(run)]
        parts.append(_tables(run.results))
    parts += [_deviations(run.described), _environment(run.record)]
    parts.append(details("Protocol: every field of the preset", _preset(run)))
    return "\n".join([*parts, "</section>"])


def figures(run: Run) -> list[str]:
    """The figures that were drawn, in the order of the captions, then by name."""
    drawn = {path.stem for path in (run.path / "figures").glob("*.png")}
    known = [name for name in questions.CAPTIONS.get(run.name, {}) if name in drawn]
    return known + sorted(drawn - set(known))


def figure(run: Run, name: str, place: str = "") -> str:
    """A figure: the still image, and panels to look into where there are any.

    Args:
      run: of the study.
      name: of the file, without ".png".
      place: tells a second copy on the page from the first.
    """
    caption = questions.caption(run.name, name)
    claims = findings.chosen(run.claims, questions.starts(run.name, name))
    alt = escape(findings.words(claims, f"{caption}, study {run.title}"))
    still = _still(run.path / "figures" / f"{name}.png", alt)
    panels = run.panels.get(name, [])
    live = "".join(
        f'<div class="panel {panel["kind"]}"><h4>{escape(panel["title"])}</h4>'
        '<div class="plot"></div><output class="readout" aria-live="polite"></output>'
        f'<script type="application/json">{embedded_json(panel)}</script></div>'
        for panel in panels
    )
    kind = "with-live" if panels else "still-only"
    return (
        f'<figure class="{kind}" id="{escape(f"{place}{run.title}-{name}")}">'
        f'<div class="live">{live}</div>{still}'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _still(path: Any, alt: str) -> str:
    """The image in the page: the same pixels as WebP, in under half of PNG's bytes."""
    packed = io.BytesIO()
    try:
        with path.open("rb") as stream, Image.open(stream) as image:
            image.convert("RGB").save(packed, "WEBP", lossless=True, method=2)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return f'<p class="bad still">The file of this figure is damaged. {alt}</p>'
    data = base64.b64encode(packed.getvalue()).decode()
    return f'<img class="still" alt="{alt}" src="data:image/webp;base64,{data}">'


def failure(error: dict[str, str]) -> str:
    """An error in words, and its traceback where the words may not do."""
    said = f"Failed: {escape(error['error'])}: {escape(error['message'])}"
    trace = error.get("traceback") or ""
    more = details("Traceback", f"<pre>{escape(trace)}</pre>") if trace else ""
    return f'<p class="bad">{said}</p>{more}'


def _panels(run: Run, folder: runs.RunFolder) -> dict[str, list[dict[str, Any]]]:
    make = PANELS.get(run.name)
    if make is None or run.results is None or not (run.path / "arrays.npz").exists():
        return {}
    alt = {
        name: findings.words(
            findings.chosen(run.claims, questions.starts(run.name, name)),
            questions.caption(run.name, name),
        )
        for name in questions.CAPTIONS[run.name]
    }
    arrays = folder.load_arrays("arrays.npz")
    found = (run.described["config"], run.results, arrays)
    try:
        return make(*map(reading.Found, found), alt)
    except reading.NotThereError:
        return {}  # of another version of the study: its still images remain


def _tables(results: dict[str, Any]) -> str:
    """Tables of a paper beside ours, where a study has them."""
    if not isinstance(results.get("paper"), dict):
        return ""
    parts = []
    ours = {kind: results.get(kind) or {} for kind in ("fast", "small", "transfer")}
    for kind, rows in ours.items():
        cells = [
            (escape(name), *(_cell(row.get(key)) for key in ("average", "ensemble")))
            for name, row in rows.items()
        ]
        if cells:
            head = ("ours", "mean of the nets", "ensemble")
            parts.append(table(head, cells, f"Ours: {kind}"))
    for name, rows in results["paper"].items():
        cells = [
            (escape(row), *(_cell(values.get(key)) for key in ("average", "ensemble")))
            for row, values in rows.items()
        ]
        head = ("the paper's", "mean of the nets", "ensemble")
        parts.append(table(head, cells, f"The paper's {name}"))
    return '<div class="side">' + "".join(parts) + "</div>"


def _cell(value: Any) -> str:
    """An accuracy, or one with its spread over seeds, in per cent."""
    mean, std = value, None
    if isinstance(value, dict):
        mean, std = value["mean"], value["std"]
    if mean is None:
        return "-"
    spread = "" if std is None else f" ± {100 * std:.2f}"
    return f"{100 * mean:.2f}{spread} %"


def _deviations(described: dict[str, Any]) -> str:
    changes = described.get("deviations")
    if not changes:
        return ""
    rows = [
        (escape(name), escape(ours), escape(papers))
        for name, (ours, papers) in changes.items()
    ]
    head = ("field", "this run", "paper's preset")
    body = table(head, rows, "Deviations")
    return details(f"Deviations: {len(rows)} fields differ from the paper's", body)


def _preset(run: Run) -> str:
    return fields(run.described["config"], f"Preset of {run.title}")


def _environment(record: dict[str, Any]) -> str:
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
    """What other code than the last invocation's made, and was used as it was."""
    if not accepted:
        return ""
    rows = [(escape(what), escape(", ".join(m))) for what, m in accepted.items()]
    words = f"Made by other code, and accepted: {len(rows)} of its parts"
    head = ("part", "modules that differ")
    return f'<p class="bad">{words}.</p>' + table(head, rows, words)
