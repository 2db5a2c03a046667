"""docs/results.md and the README's table, from docs/results/*.json alone."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kd_heuristics import report
from kd_heuristics.report import markup

Found = dict[str, Any]  # what `kept.judged` returns

OPENING = """\
# Results

`make results` writes this page from the numbers of each finished seed, which are kept
in `docs/results/runs/`. Each claim was declared before the run, with its kind, the
smallest effect that counts and the numbers of seeds at which it is judged
([verdicts](guides/verdicts.md)). The papers' values are of their own, larger sets and
networks: *contradicted* and *no effect that counts* mean that a finding was not
observed at this scale.
"""
_HEAD = (
    "claim",
    "verdict",
    "mean [interval]",
    "paper",
    "smallest effect",
    "seeds",
    "at half, at twice the effect",
    "seeds that would decide it",
)


def page(studies: Sequence[Mapping[str, Any]], found: Sequence[Found]) -> str:
    """The page, Markdown.

    Args:
      studies: "study", "question" and "presets" of each, in order.
      found: the kept results.
    """
    presets = dict.fromkeys(["digits", *(its["preset"] for its in found)])
    parts = [OPENING]
    for preset in presets:
        by_study = {its["study"]: its for its in found if its["preset"] == preset}
        parts.append(f"## `{preset}`\n\n{count(list(by_study.values()))}\n")
        for study in studies:
            if preset not in study.get("presets", [preset]):
                continue
            parts.append(f"### `{study['study']}`: {study['question']}\n")
            its = by_study.get(study["study"])
            parts.append("Not run on the final code.\n" if its is None else _study(its))
    return "\n".join(parts)


def readme(studies: Sequence[Mapping[str, str]], found: Sequence[Found]) -> str:
    """The README's table of main claims, Markdown."""
    rows = []
    for study in studies:
        own = [its for its in found if its["study"] == study["study"]]
        name = f"`{study['study']}`: {study['question']} {study['paper']}"
        if not own:
            rows.append((name, "not run on the final code", "", ""))
        for its in own:
            claims = [
                f"{c['words']}: {report.verdict_words(c)} ({_with_paper(c)})"
                for c in its["claims"]
                if c["main"]
            ]
            seeds = f"{len(its['counted'])}, {its['cpu_minutes']:.0f} CPU minutes"
            rows.append((name, its["preset"], seeds, "; ".join(claims)))
    return markdown(("study", "preset", "seeds", "main claims"), rows)


def count(found: Sequence[Found]) -> str:
    """How many main claims are decided, in words."""
    main = [claim for its in found for claim in its["claims"] if claim["main"]]
    decided = [claim for claim in main if claim["verdict"] != "inconclusive"]
    if not main:
        return "No main claim has been judged."
    return f"{len(decided)} of {len(main)} main claims of the studies run are decided."


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(
        f"| {' | '.join(str(cell).replace('|', '/') for cell in line)} |\n"
        for line in lines
    )


def _study(its: Found) -> str:
    """The section of a study's preset."""
    parts = [_how(its), *_notes(its)]
    for main, title in ((True, "Main claims"), (False, "Secondary, exploratory")):
        rows = [_row(claim) for claim in its["claims"] if claim["main"] == main]
        if rows:
            parts.append(f"{title}:\n\n{markdown(_HEAD, rows)}")
    if its["accuracies"]:
        rows = [
            (f"`{path}`", _percent(own))
            for path, own in sorted(its["accuracies"].items())
        ]
        table = markdown(("accuracy", "mean ± standard deviation"), rows)
        parts.append(f"Accuracies:\n\n{table}")
    return "\n".join(parts)


def _how(its: Found) -> str:
    devices = ", ".join(its["hardware"]["devices"] or [])
    looks = ", ".join(map(str, its["looks"]))
    return (
        f"{its['subject'].capitalize()}, preset `{its['preset']}`, seeds "
        f"{_names(its['seeds'])}; looks at {looks} seeds. Commit "
        f"{', '.join(commit[:12] for commit in its['commits'])}; "
        f"{its['cpu_minutes']:.0f} CPU minutes, {its['minutes']:.0f} minutes of wall "
        f"time on {devices} with {its['hardware']['cpu_cores']} CPU cores.\n"
    )


def _notes(its: Found) -> list[str]:
    """What a reader must know of the seeds, in words."""
    notes = [its["note"]] if its.get("note") else []
    if its["missing"]:
        notes.append(f"Seeds missing: {_names(its['missing'])}.")
    uncounted = [s for s in its["seeds"] if s not in its["counted"]]
    if uncounted:
        notes.append(f"Seeds {_names(uncounted)} wait for a missing one.")
    if its["later"]:
        notes.append(f"Seeds {_names(its['later'])} came after the last declared look.")
    if its["config_differs"]:
        fields = _codes(its["config_differs"])
        notes.append(f"Not run with the present preset, which differs in {fields}.")
    if its["rules_differ"]:
        notes.append(
            f"Rules have changed since, of {_codes(its['rules_differ'])}; shown are "
            "those declared."
        )
    if its["declared_since"]:
        notes.append(
            f"Declared since, and not judged: {_codes(its['declared_since'])}."
        )
    if its["code_differs"]:
        modules = [
            *its["code_differs"][:4],
            *(["..."] * (len(its["code_differs"]) > 4)),
        ]
        notes.append(
            f"Not run on the final code: {len(its['code_differs'])} modules have "
            f"changed since ({', '.join(modules)})."
        )
    if its.get("accepted_code"):
        notes.append(
            f"The run uses what other code made ({', '.join(its['accepted_code'])})."
        )
    notes += [words for words in [report.failures_words(its)] if words]
    return [f"{note}\n" for note in notes]


def _codes(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _row(claim: dict[str, Any]) -> tuple[str, ...]:
    interval, needed = claim["interval"], claim["seeds_needed"]
    shown = report.effect_words(claim)
    if interval is not None:
        shown += f" [{interval[0]:.3g}, {interval[1]:.3g}]"
    judged = claim["look"] is not None
    return (
        claim["words"],
        report.verdict_words(claim),
        shown,
        "-" if claim["paper"] is None else f"{claim['paper']:.3g}",
        markup.number(claim["smallest_effect"], claim["unit"]),
        str(len(claim["values"])),
        f"{claim['verdict_at_half']}, {claim['verdict_at_twice']}" if judged else "-",
        "more than 1,000" if needed is None and interval else str(needed or "-"),
    )


def _with_paper(claim: dict[str, Any]) -> str:
    words = report.effect_words(claim)
    if claim["paper"] is None or claim["kind"] == "mostly":
        return words
    return f"{words}; paper {claim['paper']:.3g}"


def _percent(own: Mapping[str, Any]) -> str:
    if own["mean"] is None:
        return "not finite"
    spread = "" if own["std"] is None else f" ± {100 * own['std']:.1f}"
    return f"{100 * own['mean']:.1f}{spread} %"


def _names(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))
