"""Top of the page: what was run, whether it is a preview, and the contents."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kd_heuristics.report import findings
from kd_heuristics.report.folder import Run
from kd_heuristics.report.markup import escape
from kd_heuristics.report.section import duration


def about(found: Sequence[Run]) -> str:
    """Returns what the page shows, a line each: studies, seeds, time, hardware."""
    main = [claim for run in found for claim in run.claims if claim["main"]]
    last = [run.invocations[-1] for run in found if run.invocations]
    seconds = sum(run.seconds for run in found)
    rows = {
        findings.count(len(found), "study", "studies"): _listed(
            run.described.get("paper") for run in found
        ),
        "preset": _listed(run.path.parent.name for run in found),
        "network and data": _listed(run.subject for run in found),
        "seeds": _seeds(found),
        "time": duration(seconds) if seconds else "",
        "hardware": _listed(map(_hardware, last)),
        "software": _listed(map(_software, last)),
        "commit": _listed(str(entry.get("git_commit") or "")[:12] for entry in last),
        findings.count(len(main), "main claim"): findings.counted(main) if main else "",
    }
    lines = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(words)}</dd></div>"
        for name, words in rows.items()
        if words
    )
    return f'<dl class="about">{lines}</dl>'


def _listed(words: Iterable[Any]) -> str:
    """Returns different words in a row, in their order."""
    return "; ".join(dict.fromkeys(str(word) for word in words if word))


def _seeds(found: Sequence[Run]) -> str:
    """Returns the number of seeds of the studies, "1" or "4 to 12"."""
    counts = [run.described["config"].get("seeds") for run in found]
    counts = sorted({count for count in counts if type(count) is int})
    if not counts:
        return ""
    if len(counts) > 1:
        return f"{counts[0]:,} to {counts[-1]:,}"
    return f"{counts[0]:,} in each study" if len(found) > 1 else f"{counts[0]:,}"


def _hardware(entry: Mapping[str, Any]) -> str:
    """Returns the devices and cores of an invocation."""
    cores = entry.get("cpu_cores")
    words = ", ".join(entry["devices"])
    return f"{words}, {cores} CPU cores" if cores else words


def _software(entry: Mapping[str, Any]) -> str:
    """Returns the versions of an invocation."""
    versions = entry.get("versions")
    versions = versions if isinstance(versions, dict) else {}
    return ", ".join(
        f"{name} {versions[name]}" for name in _PACKAGES if name in versions
    )


_PACKAGES = ("kd_heuristics", "jax", "flax")


def banner(found: Sequence[Run]) -> str:
    """Returns a warning if runs have too few seeds for a verdict; "" otherwise."""
    previews = [run for run in found if run.is_preview]
    if not previews:
        return ""
    judged = [run for run in found if run.claims and not run.is_preview]
    which = "" if not judged else f" of {', '.join(run.title for run in previews)}"
    looks = sorted({look for run in previews for look in _first_look(run)})
    due = f" The first verdicts come at {_or(looks)} seeds." if looks else ""
    words = f"The numbers{which} are estimates from too few seeds for any verdict.{due}"
    return f'<p class="banner"><strong>Preview.</strong> {escape(words)}</p>'


def _first_look(run: Run) -> list[int]:
    """Returns the first declared number of seeds, if the config declares any."""
    looks = run.described["config"].get("looks")
    looks = looks if isinstance(looks, list) else []
    return [look for look in looks[:1] if type(look) is int]


def _or(numbers: Sequence[int]) -> str:
    """Returns numbers in a row, "3, 4 or 5"."""
    *most, last = [f"{number:,}" for number in numbers]
    return f"{', '.join(most)} or {last}" if most else last


def contents(found: Sequence[Run]) -> str:
    """Returns the table of contents."""
    links = "".join(
        f'<li><a href="#{escape(run.title)}">{escape(run.heading)}</a></li>'
        for run in found
    )
    return f'<nav aria-label="contents"><ul>{links}</ul></nav>'


def absent(names: Sequence[str]) -> str:
    """Returns the commands of studies that were not run; no failures of the page."""
    if not names:
        return ""
    commands = ", ".join(
        f"<code>python -m experiments.{escape(n)}</code>" for n in names
    )
    return f'<p class="absent">Not part of these runs: {commands}.</p>'
