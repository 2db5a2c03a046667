"""Verdicts in words, in tables and in drawings of their intervals."""

from collections.abc import Iterable, Sequence
from typing import Any

from kd_heuristics.report.markup import VERDICTS, badge, escape, number, table
from kd_heuristics.runs.claims import covers

Claims = Sequence[dict[str, Any]]


def chosen(claims: Claims, names: Sequence[str]) -> list[dict[str, Any]]:
    """Returns the claims whose key, or a family of it, is among `names`."""
    # Runs of earlier versions have no keys.
    return [c for c in claims if any(covers(name, c.get("key", "")) for name in names)]


def sentence(claim: dict[str, Any]) -> str:
    """Returns a claim, its verdict and its numbers in a line of plain text."""
    words = f"{claim['words']}: {verdict(claim)} (here {effect(claim)}"
    if claim["paper"] is not None:
        words += f", in the paper {_papers(claim)}"
    return words + ")"


def verdict(claim: dict[str, Any]) -> str:
    """Returns a claim's verdict; before the first look "preview"."""
    return "preview" if claim["look"] is None else claim["verdict"]


def effect(claim: dict[str, Any]) -> str:
    """Returns a claim's mean with its unit; how many seeds, for yes or no."""
    if claim["kind"] == "mostly":
        count = num_seeds(claim)
        return f"{round(count * (claim['mean'] or 0.0))} of {count} seeds"
    return number(claim["mean"], claim["unit"])


def num_seeds(claim: dict[str, Any]) -> int:
    """Returns the number of seeds in a claim's mean: no failed ones, if any failed."""
    # Runs of earlier versions have no number.
    return claim.get("num_seeds", len(claim["values"]) - len(claim["failed"]))


def by_seed(claim: dict[str, Any], seeds: Sequence[int]) -> dict[int, float | None]:
    """Returns a claim's values by seed.

    Args:
      claim: judged; it names its seeds if a study judged it.
      seeds: of the run, for a claim that names none.
    """
    values = [*claim["values"], *claim["later_values"]]
    return dict(zip(claim.get("seeds") or seeds, values, strict=False))


def _papers(claim: dict[str, Any]) -> str:
    """Returns the paper's value of a claim."""
    if claim["kind"] == "mostly" and claim["paper"] is not None:
        return "yes" if claim["paper"] > 0.5 else "no"
    return number(claim["paper"], claim["unit"])


def words(claims: Claims, caption: str) -> str:
    """Returns a figure's content in words, for readers who cannot see it."""
    found = "; ".join(sentence(claim) for claim in claims[:4])
    return f"{caption}. {found}." if found else f"{caption}."


def answer(claims: Claims) -> str:
    """Returns the number of claims for each verdict, in a sentence."""
    seeds = max((len(claim["values"]) for claim in claims), default=0)
    if claims and all(claim["look"] is None for claim in claims):
        return (
            f"Preview: estimates of {_count(seeds, 'seed')}, no verdict before the "
            "first declared look."
        )
    found = [verdict(claim) for claim in claims]
    names = [*VERDICTS, "preview"]
    parts = [f"{found.count(name)} {name}" for name in names if name in found]
    said = (
        f"{_count(len(claims), 'claim')}: {', '.join(parts)}" if claims else "No claim"
    )
    return f"{said}; {_count(seeds, 'seed')}."


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def claims_tables(claims: Claims, title: str) -> str:
    """Returns the table of the main claims and, apart from it, of the others."""
    main = [claim for claim in claims if claim["main"]]
    others = [claim for claim in claims if not claim["main"]]
    parts = []
    if main:
        parts.append(claims_table(main, f"Main claims of {title}"))
    if others:
        words = f"Secondary claims of {title}, exploratory"
        parts.append(claims_table(others, words))
    return "".join(parts)


def claims_table(claims: Claims, caption: str) -> str:
    """Returns a table of claims: verdict, effect, spread, rule, the paper's number."""
    rows = [
        (
            escape(claim["words"]),
            badge(verdict(claim)),
            f"{escape(effect(claim))} {_interval(claim)}",
            escape(_papers(claim)),
            drawing(claim),
            escape(_rule(claim)),
            _seeds(claim),
            escape(_sensitivity(claim)),
        )
        for claim in claims
    ]
    head = (
        "claim",
        "verdict",
        "mean [interval]",
        "paper",
        "interval, rule and paper",
        "rule, fixed before the run",
        "seeds",
        "at half and twice the effect; seeds to decide",
    )
    return table(head, rows, caption)


def _seeds(claim: dict[str, Any]) -> str:
    """Returns the seeds judged, and names those that failed or came later."""
    count = len(claim["values"])
    numbers = claim.get("seeds") or [*range(count + len(claim["later_values"]))]
    words = [str(count)]
    if claim["failed"]:
        words.append(f"failed: {_names(numbers[place] for place in claim['failed'])}")
        for name in ("left_out", "at_chance"):
            found = claim.get(f"verdict_{name}") or "no value"
            words.append(f"failures {name.replace('_', ' ')}: {found}")
    if claim["later_values"]:
        words.append(f"later, not counted: {_names(numbers[count:])}")
    return escape("; ".join(words))


def _names(seeds: Iterable[Any]) -> str:
    return ", ".join(f"{seed:g}" for seed in seeds)


def after_looks(results: dict[str, Any]) -> str:
    """Names the seeds after the last declared look, in words; "" without any."""
    later = results.get("later_seeds")
    if not later:
        return ""
    return (
        f"Seeds {_names(later)} were run after the last declared look. They do not "
        "count, except in place of failed ones."
    )


def failures(results: dict[str, Any]) -> str:
    """Describes failed trainings, with Wilson's interval of their share."""
    found = results.get("failures") or {}
    if not found.get("trainings") or found["below"] is None:
        return ""
    parts = [
        f"{training}: seeds {_names(its['seeds'])}, {len(its['seeds'])} of "
        f"{its['of']:g} (95 % interval of the share "
        f"[{its['interval'][0]:.2f}, {its['interval'][1]:.2f}])"
        for training, its in found["trainings"].items()
    ]
    return (
        f"Failed trainings, with a train accuracy below {found['below']:.0%} at the "
        "end, or at the time that a claim names: "
        f"{'; '.join(parts)}."
    )


def _sensitivity(claim: dict[str, Any]) -> str:
    """Returns the verdicts at other effects, and the seeds that would decide it."""
    if claim["interval"] is None:
        return "-"
    needed = claim["seeds_needed"]
    seeds = "more than 1,000 seeds" if needed is None else f"{needed} seeds"
    if claim["look"] is None or claim["kind"] == "mostly":
        return seeds
    return f"{claim['verdict_at_half']}; {claim['verdict_at_twice']}; {seeds}"


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
    label = escape(sentence(claim))
    return (
        f'<svg class="forest" viewBox="0 0 200 24" role="img" aria-label="{label}">'
        + "".join(parts)
        + "</svg>"
    )


def _interval(claim: dict[str, Any]) -> str:
    """Returns a claim's interval in words."""
    if claim["interval"] is None:
        return ""
    low, high = claim["interval"]
    return f"[{low:.3g}, {high:.3g}]"


def _rule(claim: dict[str, Any]) -> str:
    """Returns a claim's rule in words."""
    effect = number(claim["smallest_effect"], claim["unit"])
    level = f"{100 * (1 - claim['level']):.3g} % interval"
    return {
        "difference": f"above 0, mean at least {effect}; {level}",
        "as_good": f"not worse by {effect}; {level}",
        "equal": f"within {effect}; {level}",
        "mostly": f"in more than half of all seeds (effect {effect}); {level}",
    }[claim["kind"]]
