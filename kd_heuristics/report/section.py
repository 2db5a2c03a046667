"""Section of a study on the page: answer, figure, claims, protocol, environment."""

from typing import Any

from kd_heuristics import runs
from kd_heuristics.report import findings, verdicts
from kd_heuristics.report.folder import Run
from kd_heuristics.report.markup import details, escape, fields, table
from kd_heuristics.report.pictures import caption_of, figure

NOT_FINISHED = '<p class="bad">Not finished: run the same command again.</p>'


def html(run: Run, aside: str = "") -> str:
    """Returns the section of a study: its answer, and all else folded.

    Args:
      run: the study's run.
      aside: what stands beside the answer.
    """
    question = run.described.get("question") or ""
    parts = [
        f'<section class="study" id="{escape(run.title)}">',
        f"<h2>{escape(run.heading)}</h2>{_who(run)}",
    ]
    if question and question != run.heading:
        parts.append(f'<p class="question">{escape(question)}</p>')
    if there := runs.other_format(run.described):
        words = f"The run folder has {escape(there)}, this version's is {runs.FORMAT}"
        parts.append(f'<p class="bad">{words}: what it lacks is not shown.</p>')
    if run.error is not None:
        parts.append(failure(run.error))
    elif run.results is None:
        parts.append(NOT_FINISHED)
    else:
        parts += _found(run, aside)
    parts += [_accepted(run), details("How it was run", _how(run))]
    return "\n".join([*parts, "</section>"])


def _who(run: Run) -> str:
    """Returns a line: the paper, what was trained, seeds and time."""
    paper, config = run.described.get("paper"), run.described["config"]
    parts = [str(paper)] if paper else []
    named = run.subject and run.subject in str(paper)  # as the user's own
    parts += [run.subject] if run.subject and not named else []
    if type(config.get("seeds")) is int:
        parts.append(findings.count(config["seeds"], "seed"))
    if run.seconds:
        parts.append(duration(run.seconds))
    return f'<p class="who">{escape(" · ".join(parts))}</p>' if parts else ""


def duration(seconds: float | int) -> str:
    """Returns a time in words.

    >>> duration(40), duration(400), duration(40000)
    ('40 seconds', '7 minutes', '11.1 hours')
    """
    if seconds < 100:
        return f"{seconds:.0f} seconds"
    if seconds < 6000:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:,.1f} hours"


def _found(run: Run, aside: str) -> list[str]:
    """Returns the answer with its figure, then all claims and figures, folded."""
    shown, names = _answering(run), run.still_names
    key = run.described.get("figure")
    key = key if key in names else next(iter(names), None)
    parts = [f'<div class="beside"><div>{verdicts.answer(shown)}</div>{aside}</div>']
    if shown:
        parts.append(verdicts.claims_table(shown, "Claims that answer it"))
    if key is not None:
        parts.append(figure(run, key))
    if run.claims:
        parts.append(_all_claims(run))
    others = [name for name in names if name != key]
    return parts + [details(caption_of(run, one), figure(run, one)) for one in others]


def _answering(run: Run) -> list[dict[str, Any]]:
    """Returns the claims that answer the question and the main ones, in their weight.

    The first of them has a seed that counts, if any does.
    """
    asked = findings.chosen(run.claims, run.described.get("answers") or ())
    main = [claim for claim in run.claims if claim["main"]]
    found = [claim for claim in asked if claim["main"]] + asked + main
    unique = [c for place, c in enumerate(found) if c not in found[:place]]
    return sorted(unique or run.claims[:3], key=lambda c: not findings.num_seeds(c))


def _all_claims(run: Run) -> str:
    """Returns all claims, and what is to be said of their seeds, folded."""
    results = run.results or {}
    notes = findings.after_looks(results), findings.failures(results)
    described = run.described
    users = bool(described.get("own"))
    body = verdicts.grouped(run.claims, described.get("controls") or (), users=users)
    body += "".join(f"<p>{escape(words)}</p>" for words in notes if words)
    count = findings.count(len(run.claims), "claim")
    return details(f"All {count}: {findings.counted(run.claims)}", body)


def _how(run: Run) -> str:
    """Returns how a study was run: protocol, deviations, environment, preset."""
    return "".join(
        [
            _environment(run),
            _protocol(run.described),
            _deviations(run.described),
            details("Preset: every field", _preset(run)),
        ]
    )


def failure(error: dict[str, str]) -> str:
    """Returns an error in words, with its traceback if one was recorded."""
    said = f"Failed: {escape(error['error'])}: {escape(error['message'])}"
    trace = error.get("traceback") or ""
    more = details("Traceback", f"<pre>{escape(trace)}</pre>") if trace else ""
    return f'<p class="bad">{said}</p>{more}'


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


def _environment(run: Run) -> str:
    """Returns the last invocation's hardware, time, command and versions."""
    if not run.invocations:
        return ""
    last = run.invocations[-1]
    devices = escape(", ".join(last["devices"]))
    return (
        f"<p>Ran on {devices} ({escape(last.get('cpu_cores'))} CPU cores), "
        f"{run.seconds:.0f} s in finished invocations, resumed "
        f"{escape(run.record['resumes'])} times. Again: "
        f"<code>{escape(last['command'])}</code></p>"
        + details("Environment", fields(last, "Environment"))
    )


def _accepted(run: Run) -> str:
    """Returns a table of parts that other code made and the run accepted."""
    accepted = run.invocations[-1].get("accepted_code") if run.invocations else None
    if not accepted:
        return ""
    rows = [(escape(what), escape(", ".join(m))) for what, m in accepted.items()]
    words = f"Made by other code, and accepted: {len(rows)} of its parts"
    head = ("part", "modules that differ")
    return f'<p class="bad">{words}.</p>' + table(head, rows, words)
