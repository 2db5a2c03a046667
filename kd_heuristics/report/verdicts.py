"""Claims on the page: verdicts, effects beside the paper's, rules and drawings."""

import re
from collections.abc import Sequence
from typing import Any

from kd_heuristics.report import findings
from kd_heuristics.report.markup import (
    VERDICTS,
    badge,
    details,
    escape,
    number,
    signed,
    table,
)

Claims = findings.Claims

HEAD = ("verdict", "claim", "here", "paper", "drawing")

# Three lines, which stand beside the first verdict.
READING = (
    '<aside class="reading" id="reading"><h3>How to read a verdict</h3><ul>'
    "<li><strong>reproduced</strong>: the interval over seeds lies on the claimed side "
    "of 0, and the mean reaches the smallest effect that counts; "
    "<strong>contradicted</strong>: the same on the other side. Claims of \u201cas "
    "good\u201d, \u201cthe same\u201d and \u201cmost seeds\u201d have rules of their "
    "own, shown under each.</li>"
    "<li><strong>no effect that counts</strong>: the whole interval is smaller than "
    "that effect; <strong>inconclusive</strong>: none of these; "
    "<strong>preview</strong>: too few seeds for a verdict.</li>"
    "<li>Here is the mean over seeds with its interval [low, high]. In a drawing the "
    "bar is the interval, ticks are seeds, the grey zone is too small an effect to "
    "count, and a ring is the paper's number.</li></ul></aside>"
)


def answer(claims: Claims) -> str:
    """Returns the first claim in a sentence: verdict, estimate, the paper's number."""
    if not claims:
        return '<p class="answer">No claim was declared.</p>'
    claim = claims[0]
    words = f"{escape(claim['words'])}, here {_here(claim)}"
    theirs = _paper(claim)
    if theirs != "-":
        words += f", in the paper {theirs}"
    return f'<p class="answer">{badge(findings.verdict(claim))} {words}.</p>'


def grouped(
    claims: Claims, controls: Sequence[str] = (), *, users: bool = False
) -> str:
    """Returns tables of the paper's claims, main and secondary, and of our controls.

    Args:
      claims: judged.
      controls: keys, or families of keys, of claims that the paper does not make.
      users: whether network or images are the user's, of which no paper claims a thing.
    """
    if users:
        return by_weight(claims)
    ours = findings.chosen(claims, controls)
    theirs = [claim for claim in claims if claim not in ours]
    groups = {
        "What the paper claims, main claims": [c for c in theirs if c["main"]],
        "What the paper claims, secondary and exploratory": [
            c for c in theirs if not c["main"]
        ],
        "Our own controls and other papers' claims": ours,
    }
    return "".join(claims_table(own, title) for title, own in groups.items() if own)


def by_weight(claims: Claims) -> str:
    """Returns tables of the main claims and of the others, whoever makes them."""
    groups = {
        "Main claims": [claim for claim in claims if claim["main"]],
        "Secondary claims, exploratory": [c for c in claims if not c["main"]],
    }
    return "".join(claims_table(own, title) for title, own in groups.items() if own)


def claims_table(claims: Claims, caption: str) -> str:
    """Returns a table of claims; on a phone each row is a block, the verdict first."""
    rows = [
        (
            badge(findings.verdict(claim)),
            f"{escape(claim['words'])}{_more(claim)}",
            _here(claim),
            _paper(claim),
            drawing(claim),
        )
        for claim in claims
    ]
    head = HEAD
    if all(claim["paper"] is None for claim in claims):
        place = HEAD.index("paper")
        head = HEAD[:place] + HEAD[place + 1 :]
        rows = [row[:place] + row[place + 1 :] for row in rows]
    return table(head, rows, caption, stacked=True)


def _more(claim: dict[str, Any]) -> str:
    """Returns a claim's rule, seeds and sensitivity, folded."""
    parts = [f"Counts if {_rule(claim)}.", _seeds(claim), _sensitivity(claim)]
    return details("rule and seeds", f"<p>{escape(' '.join(filter(None, parts)))}</p>")


def _here(claim: dict[str, Any]) -> str:
    """Returns a claim's mean and interval, with the unit's first word."""
    if claim["kind"] == "mostly" or not findings.num_seeds(claim):
        words = escape(findings.effect(claim))
        ends = [f"{100 * end:.0f}" for end in claim["interval"] or ()]
        ends = [*ends[:-1], f"{ends[-1]} %"] if ends else []
    else:
        words = escape(signed(number(claim["mean"], _unit(claim))))
        ends = [escape(signed(number(end))) for end in claim["interval"] or ()]
    interval = f' <span class="ends">[{", ".join(ends)}]</span>'
    return words + (interval if ends else "")


def _paper(claim: dict[str, Any]) -> str:
    """Returns the paper's value of a claim; "-" if it gives none."""
    if claim["kind"] == "mostly" or claim["paper"] is None:
        return escape(findings.papers(claim))
    return escape(signed(number(claim["paper"], _unit(claim))))


def _unit(claim: dict[str, Any]) -> str:
    """Returns a unit without what it is of, which stands in the rule.

    >>> _unit({"unit": "% of the worse end's train loss"}), _unit({"unit": "nats"})
    ('%', 'nats')
    >>> _unit({"unit": "similarity (cca)"})
    'similarity'
    """
    return re.split(r" (?=of |\()", claim["unit"], maxsplit=1)[0]


def _rule(claim: dict[str, Any]) -> str:
    """Returns a claim's rule in words."""
    effect = number(claim["smallest_effect"], claim["unit"])
    level = f"by a {100 * (1 - claim['level']):.4g} % interval"
    return {
        "difference": f"above 0, the mean by at least {effect}, {level}",
        "as_good": f"not worse by {effect}, {level}",
        "equal": f"within {effect} of 0, {level}",
        "mostly": f"so in more than half of all seeds, where {effect} counts, {level}",
    }[claim["kind"]]


def _seeds(claim: dict[str, Any]) -> str:
    """Returns the seeds judged, and names those that do not count or came later."""
    count = len(claim["values"])
    numbers = claim.get("seeds") or [*range(count + len(claim["later_values"]))]
    words = f"Seeds run: {count}."
    if claim["failed"]:
        failed = findings.names(numbers[place] for place in claim["failed"])
        words += f" Not counted, because a training failed or a check did: {failed}."
        found = claim.get("verdict_left_out")
        if found and claim["look"] is not None:
            words += f" Verdict without them: {found}"
            with_them = claim.get("verdict_at_chance") or "none, they have no value"
            words += f"; with them: {with_them}."
    if claim["later_values"]:
        words += f" Run later, not counted: {findings.names(numbers[count:])}."
    return words


def _sensitivity(claim: dict[str, Any]) -> str:
    """Returns the verdicts at other effects, and the seeds that would decide it."""
    if claim["interval"] is None:
        return ""
    needed = claim["seeds_needed"]
    seeds = "more than 1,000" if needed is None else str(needed)
    words = f"Seeds that would decide it at this mean and spread: {seeds}."
    if claim["look"] is None or claim["kind"] == "mostly":
        return words
    return (
        f"At half the smallest effect: {claim['verdict_at_half']}; at twice: "
        f"{claim['verdict_at_twice']}. {words}"
    )


def drawing(claim: dict[str, Any]) -> str:
    """Draw the interval as a bar, seeds as ticks, the paper's number as a ring."""
    share = claim["kind"] == "mostly"
    zone = (
        (0.5, 0.5) if share else (-claim["smallest_effect"], claim["smallest_effect"])
    )
    ends = list(claim["interval"] or [])
    values = [v for v in claim["values"] if v is not None]
    paper = [] if claim["paper"] is None else [claim["paper"]]
    everything = [*values, *ends, *paper, *zone]
    low, high = min(everything), max(everything)
    scale = 180 / ((high - low) or 1.0)

    def x(value):
        return f"{10 + (value - low) * scale:.1f}"

    kind = VERDICTS[claim["verdict"]]
    width = max((zone[1] - zone[0]) * scale, 1)
    parts = [
        f'<rect class="zone" x="{x(zone[0])}" y="2" width="{width:.1f}" height="20"/>'
    ]
    if ends:
        parts.append(
            f'<line class="span {kind}" x1="{x(ends[0])}" x2="{x(ends[1])}" '
            'y1="12" y2="12"/>'
        )
    parts += [
        f'<line class="tick {kind}" x1="{x(v)}" x2="{x(v)}" y1="7" y2="17"/>'
        for v in values
    ]
    parts += [f'<circle class="paper" cx="{x(v)}" cy="12" r="4.5"/>' for v in paper]
    label = escape(findings.sentence(claim))
    return (
        f'<svg class="forest" viewBox="0 0 200 24" role="img" aria-label="{label}">'
        + "".join(parts)
        + "</svg>"
    )
