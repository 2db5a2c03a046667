"""One self-contained HTML page from the run folders of a preset, and nothing else."""

import base64
import html
import json
from pathlib import Path
from typing import Any

from kd_heuristics import files, runs

_VERDICTS = {"reproduced": "good", "contradicted": "bad", "inconclusive": "open"}


def write(preset_folder: str | Path) -> Path:
    """Writes `report.html` from every run folder below `preset_folder`.

    A study that failed is shown with its error, one that did not finish as unfinished,
    one whose files are damaged as damaged. Every string of the folders is escaped.

    Returns: the path of the page.

    Raises:
      RunError: there is no run folder.
    """
    preset_folder = Path(preset_folder)
    folders = sorted(path.parent for path in preset_folder.glob("*/config.json"))
    if not folders:
        raise runs.RunError(f"{preset_folder} holds no run folder to report on")
    sections = "\n".join(_study_or_damage(runs.RunFolder(f)) for f in folders)
    title = f"kd_heuristics: {html.escape(preset_folder.name)}"
    page = _PAGE.format(title=title, style=_STYLE, sections=sections)
    target = preset_folder / "report.html"
    files.write_text(target, page)
    return target


def _study_or_damage(folder: runs.RunFolder) -> str:
    """The section of a study; what is no run's does not hide the other studies."""
    try:
        return _study(folder)
    except (runs.RunError, LookupError, TypeError, ValueError, AttributeError) as error:
        name = html.escape(folder.path.name)
        words = html.escape(f"{type(error).__name__}: {error}")
        return (
            f'<section id="{name}"><h2>{name}</h2><p class=bad>The files of this run '
            f"are damaged, or no run's: {words}</p></section>"
        )


def _study(folder: runs.RunFolder) -> str:
    described = folder.read_json("config.json")
    name = folder.path.name
    parts = [
        f'<section id="{html.escape(name)}"><h2>{html.escape(name)}</h2>',
        f"<p class=question>{html.escape(described.get('question', ''))}</p>",
    ]
    if (folder.path / "error.json").exists():
        parts.append(_error(folder.read_json("error.json")))
    elif not (folder.path / "results.json").exists():
        parts.append("<p class=bad>Not finished: run the same command again.</p>")
    else:
        results = folder.read_json("results.json")
        parts += [_claims(results["claims"]), _figures(folder.path)]
    parts += [_deviations(described), _environment(folder)]
    parts.append(_details("Preset", _table(described["config"])))
    return "\n".join([*parts, "</section>"])


def _claims(claims: list[dict[str, Any]]) -> str:
    rows = "".join(
        f"<tr><td>{html.escape(claim['statement'])}</td>"
        f"<td class={_VERDICTS[claim['verdict']]}>{claim['verdict']}</td>"
        f"<td>{_number(claim['mean'])} {_interval(claim)}</td>"
        f"<td>{_number(claim['paper'])}</td>"
        f"<td>{_rule(claim)}</td><td>{len(claim['values'])}</td></tr>"
        for claim in claims
    )
    return (
        "<h3>What the paper claims, and what this run says</h3><div class=wide><table>"
        "<thead><tr><th>claim</th><th>verdict</th><th>mean [95 % interval]</th>"
        "<th>paper</th><th>rule, fixed before the run</th><th>seeds</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></div><p>Reproduced: the interval lies wholly "
        "beyond the margin on the claimed side; contradicted: wholly beyond it on the "
        "other; else inconclusive, as is anything with fewer than three seeds.</p>"
    )


def _rule(claim: dict[str, Any]) -> str:
    return html.escape(
        f"{claim['direction']} {claim['smallest_effect']:g} ± {claim['margin']:g} "
        f"{claim['unit']}"
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _interval(claim: dict[str, Any]) -> str:
    if claim["interval"] is None:
        return ""
    low, high = claim["interval"]
    return f"[{low:.3g}, {high:.3g}]"


def _figures(folder: Path) -> str:
    parts = []
    for path in sorted((folder / "figures").glob("*.png"), reverse=True):
        data = base64.b64encode(path.read_bytes()).decode()
        words = html.escape(f"{path.stem} of the study {folder.name}")
        parts.append(
            f'<figure><img alt="{words}" src="data:image/png;base64,{data}">'
            f"<figcaption>{words}</figcaption></figure>"
        )
    return "<h3>Figures</h3>" + "".join(parts)


def _deviations(described: dict[str, Any]) -> str:
    """What the preset changed against the paper's."""
    changes = described.get("deviations", {})
    if not changes:
        return ""
    rows = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{html.escape(str(ours))}</td>"
        f"<td>{html.escape(str(papers))}</td></tr>"
        for name, (ours, papers) in changes.items()
    )
    table = (
        "<table><thead><tr><th>field</th><th>this run</th><th>paper's preset</th></tr>"
        f"</thead><tbody>{rows}</tbody></table>"
    )
    return _details("Where this preset departs from the paper", table)


def _environment(folder: runs.RunFolder) -> str:
    if not (folder.path / "environment.json").exists():
        return ""
    record = folder.read_json("environment.json")
    last = record["invocations"][-1]
    seconds = sum(entry.get("seconds", 0) for entry in record["invocations"])
    resumes = html.escape(str(record["resumes"]))
    line = (
        f"<p>Ran on {html.escape(', '.join(last['devices']))} "
        f"({html.escape(str(last['cpu_cores']))} CPU cores), {seconds:.0f} s in "
        f"finished invocations, resumed {resumes} times. Again: "
        f"<code>{html.escape(last['command'])}</code></p>"
    )
    return line + _details("Environment", _table(last))


def _error(error: dict[str, str]) -> str:
    trace = html.escape(error["traceback"] or "")
    return (
        f"<p class=bad>Failed: {html.escape(error['error'])}: "
        f"{html.escape(error['message'])}</p>"
        + (f"<pre>{trace}</pre>" if trace else "")
    )


def _table(values: dict[str, Any]) -> str:
    words = {k: json.dumps(v, ensure_ascii=False) for k, v in values.items()}
    rows = "".join(
        f"<tr><td>{html.escape(str(name))}</td>"
        f"<td><code>{html.escape(word)}</code></td></tr>"
        for name, word in words.items()
    )
    return f"<table><tbody>{rows}</tbody></table>"


def _details(summary: str, body: str) -> str:
    words = html.escape(summary)
    return f"<details><summary>{words}</summary><div class=wide>{body}</div></details>"


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>{style}</style></head>
<body><main><h1>{title}</h1>
{sections}
</main></body></html>
"""

_STYLE = """
:root { color-scheme: light dark; --good: #0a7a4b; --bad: #b3261e; --open: #8a5a00 }
@media (prefers-color-scheme: dark) {
  :root { --good: #5fd3a0; --bad: #ff8a80; --open: #f0c060 } }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 }
main { max-width: 70rem; margin: 0 auto; padding: 1rem }
table { border-collapse: collapse; font-size: .9rem }
td, th { text-align: left; padding: .25rem .6rem; border-bottom: 1px solid #8884;
  vertical-align: top; font-variant-numeric: tabular-nums }
.wide { overflow-x: auto }
.good { color: var(--good) } .bad { color: var(--bad) } .open { color: var(--open) }
figure { margin: 1rem 0 } img { max-width: 100%; background: #fff }
pre { overflow-x: auto } .question { font-style: italic }
"""
