"""Verdicts in plain words."""

from collections.abc import Iterable, Sequence
from typing import Any

from kd_heuristics.report.markup import VERDICTS, number
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
        words += f", in the paper {papers(claim)}"
    return words + ")"


def verdict(claim: dict[str, Any]) -> str:
    """Returns a claim's verdict; before the first look "preview"."""
    return "preview" if claim["look"] is None else claim["verdict"]


def effect(claim: dict[str, Any]) -> str:
    """Returns a claim's mean with its unit; how many seeds, for yes or no."""
    seeds = num_seeds(claim)
    if not seeds:
        # Each failed, or did not pass the study's checks.
        return "no seed counts" if claim["values"] else "-"
    if claim["kind"] == "mostly":
        return f"{round(seeds * (claim['mean'] or 0.0))} of {count(seeds, 'seed')}"
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


def papers(claim: dict[str, Any]) -> str:
    """Returns the paper's value of a claim."""
    if claim["kind"] == "mostly" and claim["paper"] is not None:
        return "yes" if claim["paper"] > 0.5 else "no"
    return number(claim["paper"], claim["unit"])


def words(claims: Claims, caption: str) -> str:
    """Returns a figure's content in words, for readers who cannot see it."""
    found = "; ".join(sentence(claim) for claim in claims[:4])
    return f"{caption}. {found}." if found else f"{caption}."


def counted(claims: Claims) -> str:
    """Returns the number of claims for each verdict.

    >>> counted([])
    'no claim'
    """
    found = [verdict(claim) for claim in claims]
    names = [*VERDICTS, "preview"]
    parts = [f"{found.count(name)} {name}" for name in names if name in found]
    return ", ".join(parts) or "no claim"


def count(number: int, what: str, plural: str = "") -> str:
    """Returns a number of things in words.

    >>> count(1, "seed"), count(2, "seed"), count(2, "study", "studies")
    ('1 seed', '2 seeds', '2 studies')
    """
    return f"{number:,} {what if number == 1 else plural or what + 's'}"


def names(seeds: Iterable[Any]) -> str:
    """Returns seeds in a row, "0, 3"."""
    return ", ".join(f"{seed:g}" for seed in seeds)


def after_looks(results: dict[str, Any]) -> str:
    """Names the seeds after the last declared look, in words; "" without any."""
    later = results.get("later_seeds")
    if not later:
        return ""
    return (
        f"Seeds {names(later)} were run after the last declared look. They do not "
        "count, except in place of failed ones."
    )


def failures(results: dict[str, Any]) -> str:
    """Describes failed trainings, with Wilson's interval of their share."""
    found = results.get("failures") or {}
    if not found.get("trainings") or found["below"] is None:
        return ""
    parts = [
        f"{training}: seeds {names(its['seeds'])}, {len(its['seeds'])} of "
        f"{its['of']:g} (95 % interval of the share "
        f"[{100 * its['interval'][0]:.0f}, {100 * its['interval'][1]:.0f} %])"
        for training, its in found["trainings"].items()
    ]
    return (
        f"Failed trainings, with a train accuracy below {found['below']:.0%} at the "
        "end, or at the time that a claim names: "
        f"{'; '.join(parts)}."
    )
