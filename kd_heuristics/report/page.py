"""One self-contained HTML page, made from run folders alone."""

from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any, NamedTuple

from kd_heuristics import runs
from kd_heuristics.report import findings, library, section
from kd_heuristics.report.markup import escape
from kd_heuristics.runtime import files

Expected = Sequence[Mapping[str, Any]]


def write(preset_folder: files.AnyPath, expected: Expected = ()) -> Any:
    """Write `report.html` from every run folder below `preset_folder`.

    Args:
      preset_folder: folder of one preset.
      expected: see `write_page`.

    Returns: the path of the page.

    Raises:
      RunError: there is no run folder.
    """
    folder = files.path(preset_folder)
    return write_page([folder], folder / "report.html", expected)


def write_page(
    paths: Sequence[files.AnyPath], target: files.AnyPath, expected: Expected = ()
) -> Any:
    """Write a page from run folders, or from folders of run folders.

    The page loads nothing: it contains all scripts, styles and images. It shows a
    failed study with its error, an unfinished one as unfinished, and one with damaged
    files as damaged. A study with several presets has a section and a card for each,
    titled by both names. All text from the folders is escaped.

    Args:
      paths: at least one folder.
      target: path of the page.
      expected: "study", "headline" and "paper" of studies, in the order of the page; a
        study without a run is shown as a line with its command.

    Returns: the path of the page.

    Raises:
      RunError: one of `paths` holds no run folder.
    """
    folders = _all_folders(paths)
    found = [_render(folder, _title(folder, folders)) for folder in folders]
    names = list(dict.fromkeys(part.run.path.parent.name for part in found))
    title = f"kd_heuristics: {', '.join(names)}"
    files.write_text(target, _page(title, _ordered(found, expected), expected))
    return files.path(target)


def read(paths: Sequence[files.AnyPath]) -> list[section.Run]:
    """Read run folders, or folders of run folders, each once.

    Args:
      paths: at least one folder.

    Returns: the runs, titled by the shortest unique end of their paths.

    Raises:
      RunError: one of `paths` holds no run folder, or a file is damaged.
    """
    found = _all_folders(paths)
    return [section.read(folder, _title(folder, found)) for folder in found]


def _all_folders(paths: Sequence[files.AnyPath]) -> list[Any]:
    """Returns the run folders at or below paths, each once."""
    # A folder may be given twice: by itself and within its preset's folder.
    return [*dict.fromkeys(f for path in paths for f in _folders(files.path(path)))]


def _folders(path: Any) -> list[Any]:
    """Returns the run folders at or directly below a path."""
    if (path / "config.json").exists():
        return [path]
    folders = sorted(file.parent for file in path.glob("*/config.json"))
    if not folders:
        raise runs.RunError(f"{path} holds no run folder to report on")
    return folders


def _title(folder: Any, folders: Sequence[Any]) -> str:
    """Returns the shortest unique end of a folder's path: "sgdr" or "demo/sgdr"."""
    depth = 1
    while sum(other.parts[-depth:] == folder.parts[-depth:] for other in folders) > 1:
        depth += 1
    return "/".join(folder.parts[-depth:])


class _Part(NamedTuple):
    """Part of the page for one study; a damaged study has no card."""

    run: section.Run
    body: str
    card: str = ""


def _ordered(found: Sequence[_Part], expected: Expected) -> list[_Part]:
    """Sort the parts: expected studies in their order, then the others by name."""
    order = [study["study"] for study in expected]

    def place(part):
        name = part.run.name
        return (order.index(name) if name in order else len(order)), name

    return sorted(found, key=place)


def _render(path: Any, title: str) -> _Part:
    """Render a study; a damaged or foreign folder becomes an error on the page."""
    try:
        return _part(section.read(path, title))
    except runs.RunError as error:
        failure = {"error": type(error).__name__, "message": str(error)}
        known = {"config": {}, "format": runs.FORMAT}
        run = section.Run(path.name, title, path, known, None, failure, {}, {})
        return _Part(run, section.html(run))


def _part(run: section.Run) -> _Part:
    """Returns a study's section, and its card if it has a headline."""
    card = _card(run.described, run) if "headline" in run.described else ""
    return _Part(run, section.html(run), card)


def write_verdicts(judged: findings.Claims, target: files.AnyPath, title: str) -> Any:
    """Write a page with the tables of judged claims alone.

    Args:
      judged: as `runs.judge_all` returns them.
      target: path of the page.
      title: of the page.

    Returns: the path of the page.
    """
    write_body(title, findings.claims_tables(judged, title) + _reading(), target)
    return files.path(target)


def write_body(title: str, body: str, target: files.AnyPath) -> None:
    """Write a page with one body; plotly.js is included only if a panel needs it."""
    script = library.packed() if "with-live" in body else None
    files.write_text(target, _document(title, "", body, script))


def _page(title: str, found: Sequence[_Part], expected: Expected) -> str:
    """Assemble the page; plotly.js is included only if a panel needs it."""
    script = library.packed() if any("with-live" in p.body for p in found) else None
    body = [_opening(found, expected), *(part.body for part in found), _reading()]
    return _document(title, _contents(found), "\n".join(body), script)


def _document(title: str, contents: str, body: str, script: str | None) -> str:
    """Returns a document around a body, with plotly.js if a script is given."""
    words = escape(title)
    parts = [
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<link rel="icon" href="data:,">',  # otherwise browsers request an icon
        f"<title>{words}</title><style>{_asset('page.css')}</style></head>",
        '<body><a class="skip" href="#questions">To the questions</a>',
        f"<header><h1>{words}</h1>{contents}</header><main>",
        body,
        "</main>",
    ]
    if script is not None:
        parts.append(f'<script type="text/plain" id="library">{script}</script>')
        parts.append(f"<script>{_asset('page.js')}</script>")
    return "\n".join([*parts, "</body></html>\n"])


def _contents(found: Sequence[_Part]) -> str:
    """Returns the table of contents."""
    names = [escape(part.run.title) for part in found]
    links = "".join(f'<li><a href="#{name}">{name}</a></li>' for name in names)
    return f'<nav aria-label="studies"><ul>{links}</ul></nav>'


def _opening(found: Sequence[_Part], expected: Expected) -> str:
    """Returns the cards that open the page, also those of missing studies."""
    names = {part.run.name for part in found}
    absent = [_card(study, None) for study in expected if study["study"] not in names]
    return f'<div id="questions">{"".join([*(p.card for p in found), *absent])}</div>'


def _card(study: Mapping[str, Any], run: section.Run | None) -> str:
    """Returns a card with a study's question and a run's answer.

    Args:
      study: its "headline" and "paper"; for a run also "answers", the keys of the
        claims that answer the question, and "figure", which shows the answer.
      run: the run; `None` if there is none.
    """
    words = study["headline"]
    if run is not None and run.title != run.name:
        words = f"{words} ({run.title})"
    head = f'<h2>{escape(words)}</h2><p class="who">{escape(study["paper"])}</p>'
    if run is None:
        command = f"python -m experiments.{escape(study['study'])}"
        body = f'<p class="open">No run of it here: <code>{command}</code></p>'
    elif run.error is not None:
        body = section.failure(run.error)
    elif run.results is None:
        body = section.NOT_FINISHED
    else:
        chosen = findings.chosen(run.claims, study["answers"]) or run.claims[:3]
        body = f'<p class="answer">{escape(findings.answer(chosen))}</p>'
        body += findings.claims_table(chosen, "The claims that answer it")
        drawn = section.figures(run)
        if drawn:
            name = study["figure"] if study["figure"] in drawn else drawn[0]
            body += section.figure(run, name, place="opening-")
        body += f'<p><a href="#{escape(run.title)}">All of this study</a></p>'
    return f'<article class="card">{head}{body}</article>'


def _reading() -> str:
    """Returns the section that explains how to read the page."""
    return (
        '<section id="reading"><h2>How to read this</h2><p>Each claim was declared '
        "with its rule and the smallest effect that counts. Reproduced, for a "
        "difference: the interval of the mean over seeds lies on the claimed side of "
        "0, and the mean is at least the effect. Contradicted: the same on the other "
        "side. No effect that counts: the interval lies within the effect of 0. Else "
        "inconclusive. A preview is an estimate before the first declared number of "
        "seeds. Main claims answer the study's question and share one error of 5 % "
        "(Holm); secondary claims are exploratory.</p><p>In the small drawings the bar "
        "is the "
        "interval, ticks are seeds, the grey zone is an effect too small to count, the "
        "ring is the paper's number.</p><p>Panels can be read by pointer, or by "
        "keyboard: Tab to a panel, then the arrow keys; what is under the pointer "
        "stands below it. Grey curves are the paper's; where the data are not the "
        "paper's they wait in the legend. Printed, and without scripts, each figure is "
        "a still image.</p></section>"
    )


def _asset(name: str) -> str:
    return (resources.files("kd_heuristics.report") / "assets" / name).read_text(
        encoding="utf-8"
    )
