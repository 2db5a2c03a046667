"""Claims of a paper, declared before a run and judged by fixed rules.

A claim names a statistic, one signed number per seed, and the smallest effect that
counts. `verdicts` holds the table of rules. Claims are judged when declared numbers of
seeds are done; a study's main claims share the error by Holm's method (1979).
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from kd_heuristics.runs import verdicts
from kd_heuristics.runtime import nearest

LOOKS = (4, 8, 12)
_GONE = {
    "statement": "give the claim's words as `words`",
    "direction": "sign the statistic so that the claimed direction is positive",
    "margin": "give `smallest_effect` and a `kind`",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Claim:
    """A paper's statement, as a number that a run can contradict.

    Attributes:
      key: name of the claim within its study. "barrier/sgdr/30-70" belongs to the
        families "barrier" and "barrier/sgdr", by which a figure may name its claims.
      words: the claim as a sentence.
      kind: "difference" (better, more), "as_good" (no worse), "equal" (the same) or
        "mostly" (yes or no for each seed); see `verdicts`.
      smallest_effect: smallest effect that counts, positive, in `unit`.
      unit: unit of the statistic as a person reads it: "points", "%", "nats".
      statistic: name of the statistic; `None` stands for the key.
      paper: the paper's own value, in the same unit; `None` if it gives none.
      main: whether the claim answers the study's question; others are secondary.

    Raises:
      ValueError: the key is empty, the kind unknown, the effect not positive, or the
        paper's value not finite.
      TypeError: a field of an earlier version is given.
    """

    key: str
    words: str
    kind: str
    smallest_effect: float
    unit: str
    statistic: str | None = None
    paper: float | None = None
    main: bool = False

    def __new__(cls, **fields: Any):
        """Refuses fields of earlier versions by name."""
        for name, remedy in _GONE.items():
            if name in fields:
                raise TypeError(f"claims have no {name!r} any more; {remedy}")
        return super().__new__(cls)

    def __post_init__(self):
        if not self.key or not self.words:
            raise ValueError(f"a claim needs a key and words, got {self}")
        nearest.choose(self.kind, verdicts.KINDS, f"kind of claim {self.key!r}:")
        verdicts.check_effect(self.smallest_effect)
        if self.paper is not None and not math.isfinite(self.paper):
            raise ValueError(f"paper of claim {self.key!r} must be finite or None")

    @property
    def source(self) -> str:
        """Name of the statistic."""
        return self.key if self.statistic is None else self.statistic


def judge(claim: Claim, values: Any, *, level: float = 0.05) -> dict[str, Any]:
    """Judges a claim by its statistic for each seed, at one look.

    Args:
      claim: the claim.
      values: [seeds], paired differences within a seed; 0 or 1 for "mostly". A
        non-finite value marks a failed seed, and the claim is then inconclusive.
      level: two-sided level of the interval.

    Returns: the claim's fields and `values`; `failed`, the indices of failed seeds;
      `mean`, `interval` and `p` of the others (None if there are too few); `verdict`;
      `verdict_at_half` and `verdict_at_twice` the smallest effect; `seeds_needed` that
      would decide it at the same mean and spread; `level`; `look`, the number of seeds,
      None for one; `later_values`, [].

    Raises:
      ValueError: a value of "mostly" is neither 0 nor 1.

    >>> claim = Claim(key="rise", words="it rises", kind="difference",
    ...               smallest_effect=0.5, unit="nats")
    >>> judge(claim, [1.0, 1.1, 0.9])["verdict"]
    'reproduced'
    >>> judge(claim, [1.0])["verdict"]
    'inconclusive'
    """
    array = np.asarray(values, np.float64)
    fine = array[np.isfinite(array)]
    if claim.kind == "mostly" and not np.isin(fine, (0.0, 1.0)).all():
        raise ValueError(
            f"values of the claim {claim.key!r}, of the kind 'mostly', must be 0 or 1 "
            f"for each seed, got {array.tolist()}"
        )
    mean = float(fine.mean()) if len(fine) else None
    effect = claim.smallest_effect
    found = verdicts.interval(claim.kind, effect, fine, level)
    failed = np.flatnonzero(~np.isfinite(array)).tolist()

    def at(factor: float) -> str:
        own = verdicts.interval(claim.kind, factor * effect, fine, level)
        if mean is None or own is None or failed:
            return "inconclusive"
        return verdicts.verdict(claim.kind, factor * effect, mean, *own)

    return {
        **dataclasses.asdict(claim),
        "values": [value if math.isfinite(value) else None for value in array.tolist()],
        "failed": failed,
        "mean": mean,
        "interval": found,
        "level": level,
        "p": None if found is None else verdicts.p_value(claim.kind, effect, fine),
        "verdict": at(1.0),
        "verdict_at_half": at(0.5),
        "verdict_at_twice": at(2.0),
        "seeds_needed": verdicts.seeds_needed(claim.kind, effect, fine, level),
        "look": len(array) if len(array) > 1 else None,
        "later_values": [],
    }


def judge_all(
    claims: Sequence[Claim],
    statistics: Mapping[str, Any],
    *,
    looks: Sequence[int] = LOOKS,
    level: float = 0.05,
) -> list[dict[str, Any]]:
    """Judges the claims of a study at the declared looks that its seeds reach.

    At each look the undecided main claims are read in ascending order of p, claim i of
    m at the look's level divided by m - i + 1, up to the first that stays undecided.
    Secondary claims are read at the look's level. A claim keeps the verdict of the look
    that decides it.

    Args:
      claims: claims of the study.
      statistics: `{name: [seeds]}`.
      looks: ascending numbers of seeds, declared before the run. Later seeds are
        reported but do not count.
      level: two-sided level of all looks together.

    Returns: for each claim, the result of `judge`. `look` is the number of seeds at
      which it was judged; None, with an inconclusive verdict, if no look was reached.

    Raises:
      ValueError: two claims have the same key, a claim names an unknown statistic, or
        the looks do not ascend.
    """
    check(claims)
    values: dict[str, np.ndarray] = {}
    for claim in claims:
        what = f"statistic of claim {claim.key!r}:"
        nearest.choose(claim.source, statistics, what)
        values[claim.key] = np.asarray(statistics[claim.source], np.float64)
    found: dict[str, dict[str, Any]] = {}
    for look, alpha in zip(looks, verdicts.look_levels(looks, level), strict=True):
        for claim, read in _order(claims, values, found, look, alpha):
            judged = judge(claim, values[claim.key][:look], level=read or alpha)
            if read is None:
                judged["verdict"] = "inconclusive"
            found[claim.key] = judged
    out = []
    for claim in claims:
        judged = found.get(claim.key) or _preview(claim, values[claim.key], level)
        later = values[claim.key][len(judged["values"]) :]
        listed = [float(value) if math.isfinite(value) else None for value in later]
        out.append(judged | {"later_values": listed})
    return out


def _order(claims, values, found, look: int, alpha: float):
    """Yields the undecided claims that reach a look, each with its level.

    The level is None for main claims after the first that stays undecided.
    """
    waiting = [
        claim
        for claim in claims
        if len(values[claim.key]) >= look
        and found.get(claim.key, {"verdict": "inconclusive"})["verdict"]
        == "inconclusive"
    ]
    yield from ((claim, alpha) for claim in waiting if not claim.main)

    def p(claim):
        own = values[claim.key][:look]
        if not np.isfinite(own).all():
            return 1.0
        return verdicts.p_value(claim.kind, claim.smallest_effect, own)

    main = sorted((claim for claim in waiting if claim.main), key=p)
    open_ = True
    for left, claim in zip(range(len(main), 0, -1), main, strict=True):
        yield claim, alpha / left if open_ else None
        open_ = open_ and p(claim) < alpha / left


def _preview(claim: Claim, values: np.ndarray, level: float) -> dict[str, Any]:
    """Returns the estimate for a claim before the first look, without a verdict."""
    judged = judge(claim, values, level=level) | {"look": None}
    return judged | dict.fromkeys(
        ("verdict", "verdict_at_half", "verdict_at_twice"), "inconclusive"
    )


def check(claims: Iterable[Claim]) -> None:
    """Raises ValueError if two claims have the same key."""
    seen: dict[str, str] = {}
    for claim in claims:
        if claim.key in seen:
            raise ValueError(
                f"two claims have the key {claim.key!r}: {seen[claim.key]!r} and "
                f"{claim.words!r}"
            )
        seen[claim.key] = claim.words


def covers(name: str, key: str) -> bool:
    """Whether a name is a claim's key, or a family of that key.

    >>> covers("barrier", "barrier/sgdr/30-70"), covers("bar", "barrier/sgdr/30-70")
    (True, False)
    """
    return key == name or key.startswith(f"{name}/")


def summary(values: Any) -> dict[str, Any]:
    """Returns mean, standard deviation and values over seeds, as in results.json.

    >>> summary([1.0, 3.0])
    {'mean': 2.0, 'std': 1.4142135623730951, 'values': [1.0, 3.0]}
    """
    array = np.asarray(values, np.float64)
    spread = float(array.std(ddof=1)) if len(array) > 1 else None
    return {"mean": float(array.mean()), "std": spread, "values": array.tolist()}
