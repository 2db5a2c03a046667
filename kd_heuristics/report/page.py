"""One self-contained HTML page, made from run folders alone."""

from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from kd_heuristics import runs
from kd_heuristics.report import folder, library, opening, section, verdicts
from kd_heuristics.report.markup import details, escape
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
    root = files.path(preset_folder)
    return write_page([root], root / "report.html", expected)


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
      expected: "study" of studies, in the order of the page; those without a run are
        named at its end.

    Returns: the path of the page.

    Raises:
      RunError: one of `paths` holds no run folder.
    """
    folders = _all_folders(paths)
    found = [_read(path, _title(path, folders)) for path in folders]
    names = list(dict.fromkeys(run.path.parent.name for run in found))
    title = f"kd_heuristics: {', '.join(names)}"
    files.write_text(target, _page(title, _ordered(found, expected), expected))
    return files.path(target)


def read(paths: Sequence[files.AnyPath]) -> list[folder.Run]:
    """Read run folders, or folders of run folders, each once.

    Args:
      paths: at least one folder.

    Returns: the runs, titled by the shortest unique end of their paths.

    Raises:
      RunError: one of `paths` holds no run folder, or a file is damaged.
    """
    found = _all_folders(paths)
    return [folder.read(path, _title(path, found)) for path in found]


def _all_folders(paths: Sequence[files.AnyPath]) -> list[Any]:
    """Returns the run folders at or below paths, each once."""
    # A folder may be given twice: by itself and within its preset's folder.
    return [*dict.fromkeys(f for path in paths for f in _folders(files.path(path)))]


def _folders(path: Any) -> list[Any]:
    """Returns the run folders at or directly below a path."""
    if (path / "config.json").exists():
        return [path]
    found = sorted(file.parent for file in path.glob("*/config.json"))
    if not found:
        raise runs.RunError(f"{path} holds no run folder to report on")
    return found


def _title(path: Any, folders: Sequence[Any]) -> str:
    """Returns the shortest unique end of a folder's path: "sgdr" or "demo/sgdr"."""
    depth = 1
    while sum(other.parts[-depth:] == path.parts[-depth:] for other in folders) > 1:
        depth += 1
    return "/".join(path.parts[-depth:])


def _ordered(found: Sequence[folder.Run], expected: Expected) -> list[folder.Run]:
    """Sort the runs: expected studies in their order, then the others by name."""
    order = [study["study"] for study in expected]

    def place(run):
        known = run.name in order
        return (order.index(run.name) if known else len(order)), run.name

    return sorted(found, key=place)


def _read(path: Any, title: str) -> folder.Run:
    """Read a study; a damaged or foreign folder becomes an error on the page."""
    try:
        return folder.read(path, title)
    except runs.RunError as error:
        return folder.damaged(path, title, error)


def write_verdicts(judged: verdicts.Claims, target: files.AnyPath, title: str) -> Any:
    """Write a page with the tables of judged claims alone.

    Args:
      judged: as `runs.judge_all` returns them.
      target: path of the page.
      title: of the page.

    Returns: the path of the page.
    """
    body = f"<section>{verdicts.READING}{verdicts.by_weight(judged)}</section>"
    write_body(title, body, target)
    return files.path(target)


def write_body(title: str, body: str, target: files.AnyPath) -> None:
    """Write a page with one body; plotly.js is included only if a panel needs it."""
    files.write_text(target, _document(title, "", "", body))


def _page(title: str, found: Sequence[folder.Run], expected: Expected) -> str:
    """Assemble the page; plotly.js is included only if a panel needs it."""
    names = {run.name for run in found}
    missing = [study["study"] for study in expected if study["study"] not in names]
    first = next((place for place, run in enumerate(found) if run.claims), None)
    sections = [
        section.html(run, verdicts.READING if place == first else "")
        for place, run in enumerate(found)
    ]
    head = opening.about(found) + opening.banner(found)
    body = "\n".join([*sections, opening.absent(missing), _MORE])
    return _document(title, head, opening.contents(found), body)


def _document(title: str, head: str, contents: str, body: str) -> str:
    """Returns a document around a body, with plotly.js if a panel needs it."""
    words = escape(title)
    script = library.packed() if 'class="explore"' in body else None
    parts = [
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<link rel="icon" href="data:,">',  # otherwise browsers request an icon
        f"<title>{words}</title><style>{_asset('page.css')}</style></head>",
        f'<body>{_asset("dark.svg")}<a class="skip" href="#main">To the answers</a>',
        f"<header><h1>{words}</h1>{head}</header>{contents}",
        f'<main id="main">{body}</main>',
    ]
    if script is not None:
        parts.append(f'<script type="text/plain" id="library">{script}</script>')
        parts.append(f"<script>{_asset('page.js')}</script>")
    return "\n".join([*parts, "</body></html>\n"])


_MORE = details(
    "About this page",
    "<p>Each claim was declared with its rule and the smallest effect that counts. "
    "Main claims answer a study's question and share one error of 5 % (Holm); "
    "secondary claims are exploratory. A preview is an estimate before the first "
    "declared number of seeds. The papers' numbers are of their own sets and networks."
    "</p><p>\u201cRead its values\u201d below a figure opens panels for the pointer "
    "or, after Tab, the arrow keys; what is under the pointer stands below the panel. "
    "Grey curves are the paper's; where the data are not the paper's they wait in the "
    "legend. Printed, and without scripts, each figure is a still image.</p>",
)


def _asset(name: str) -> str:
    return (resources.files("kd_heuristics.report") / "assets" / name).read_text(
        encoding="utf-8"
    )
