"""Verdicts in words, in tables and in drawings of their intervals."""

from collections.abc import Sequence
from typing import Any

from kd_heuristics.report.markup import VERDICTS, badge, escape, number, table
from kd_heuristics.runs.claims import MINIMUM_SEEDS, covers

Claims = Sequence[dict[str, Any]]


def chosen(claims: Claims, names: Sequence[str]) -> list[dict[str, Any]]:
    """Returns the claims whose key, or a family of it, is among `names`."""
    # Runs of earlier versions have no keys.
    return [c for c in claims if any(covers(name, c.get("key", "")) for name in names)]


def sentence(claim: dict[str, Any]) -> str:
    """Returns a claim, its verdict and its numbers in a line of plain text."""
    unit = claim["unit"]
    words = f"{claim['statement']}: {claim['verdict']}"
    words += f" (here {number(claim['mean'], unit)}"
    if claim["paper"] is not None:
        words += f", in the paper {number(claim['paper'], unit)}"
    return words + ")"


def words(claims: Claims, caption: str) -> str:
    """Returns a figure's content in words, for readers who cannot see it."""
    found = "; ".join(sentence(claim) for claim in claims[:4])
    return f"{caption}. {found}." if found else f"{caption}."


def answer(claims: Claims) -> str:
    """Returns the number of claims for each verdict, in a sentence."""
    counts = {name: sum(c["verdict"] == name for c in claims) for name in VERDICTS}
    parts = [f"{count} {name}" for name, count in counts.items() if count]
    seeds = max((len(c["values"]) for c in claims), default=0)
    many = f"{len(claims)} claim{'' if len(claims) == 1 else 's'}"
    said = f"{many}: {', '.join(parts)}; " if claims else "No claim; "
    said += f"{seeds} seed{'' if seeds == 1 else 's'}."
    if seeds < MINIMUM_SEEDS:
        said += f" Fewer than {MINIMUM_SEEDS} seeds are always inconclusive."
    return said


def claims_table(claims: Claims, caption: str) -> str:
    """Returns a table of claims: verdict, effect, spread, rule, the paper's number."""
    rows = [
        (
            escape(claim["statement"]),
            badge(claim["verdict"]),
            f"{escape(number(claim['mean'], claim['unit']))} {_interval(claim)}",
            escape(number(claim["paper"], claim["unit"])),
            drawing(claim),
            escape(_rule(claim)),
            str(len(claim["values"])),
        )
        for claim in claims
    ]
    head = (
        "what the paper claims",
        "verdict",
        "mean [95 % interval]",
        "paper",
        "interval, rule and paper",
        "rule, fixed before the run",
        "seeds",
    )
    return table(head, rows, caption)


def drawing(claim: dict[str, Any]) -> str:
    """Draw the interval as a bar, seeds as ticks, the paper's number as a ring."""
    rule, margin = claim["smallest_effect"], claim["margin"]
    ends = list(claim["interval"] or [])
    values = [v for v in claim["values"] if v is not None]
    paper = [] if claim["paper"] is None else [claim["paper"]]
    everything = [*values, *ends, *paper, rule - margin, rule + margin]
    low, high = min(everything), max(everything)
    scale = 180 / ((high - low) or 1.0)

    def x(value):
        return f"{10 + (value - low) * scale:.1f}"

    kind = VERDICTS[claim["verdict"]]
    parts = [
        f'<rect class="zone" x="{x(rule - margin)}" y="2" '
        f'width="{max(2 * margin * scale, 1):.1f}" height="20"/>'
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
    label = escape(sentence(claim))
    return (
        f'<svg class="forest" viewBox="0 0 200 24" role="img" aria-label="{label}">'
        + "".join(parts)
        + "</svg>"
    )


def _interval(claim: dict[str, Any]) -> str:
    """Returns a claim's interval in words, accuracies in per cent."""
    if claim["interval"] is None:
        return ""
    scale = 100 if claim["unit"] == "accuracy" else 1
    low, high = (scale * end for end in claim["interval"])
    return f"[{low:.3g}, {high:.3g}]"


def _rule(claim: dict[str, Any]) -> str:
    """Returns a claim's rule in words."""
    return (
        f"{claim['direction']} {claim['smallest_effect']:g} ± {claim['margin']:g} "
        f"{claim['unit']}"
    )
