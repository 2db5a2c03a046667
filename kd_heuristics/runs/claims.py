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
      trainings: names of the trainings without which a seed says nothing on it, such as
        the arms that it compares. An arm whose failure is what is claimed is not one.

    Raises:
      ValueError: the key is empty, the kind unknown, the effect not positive, or the
        paper's value not finite.
      TypeError: a field of an earlier version is given, or trainings are a string.
    """

    key: str
    words: str
    kind: str
    smallest_effect: float
    unit: str
    statistic: str | None = None
    paper: float | None = None
    main: bool = False
    trainings: Sequence[str] = ()

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
        if isinstance(self.trainings, str):
            raise TypeError(
                f"trainings of claim {self.key!r} must be a tuple of names, got "
                f"{self.trainings!r}"
            )
        object.__setattr__(self, "trainings", tuple(self.trainings))  # of JSON

    @property
    def source(self) -> str:
        """Name of the statistic."""
        return self.key if self.statistic is None else self.statistic


def judge(
    claim: Claim, values: Any, *, level: float = 0.05, failed: Any = None
) -> dict[str, Any]:
    """Judges a claim by its statistic for each seed, at one look.

    Args:
      claim: the claim.
      values: [seeds], paired differences within a seed; 0 or 1 for "mostly".
      level: two-sided level of the interval.
      failed: [seeds], true for a seed with a failed training. A value that is not
        finite marks a failed seed, too. Then fewer seeds remain than were judged, and
        the claim is inconclusive.

    Returns: the claim's fields and `values`; `failed`, the indices of failed seeds;
      `mean` and `interval` of the `num_seeds` others, and `p`, the smallest level at
      which the claim is decided (None if there are too few); `verdict`;
      `verdict_left_out` and `verdict_at_chance`, without the failed seeds and with
      their values (None if nothing failed, or a value is not finite);
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
    return _judged(_sample(claim, values, failed, np.size(values)), level)


def judge_all(
    claims: Sequence[Claim],
    statistics: Mapping[str, Any],
    *,
    looks: Sequence[int] = LOOKS,
    level: float = 0.05,
    failed: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """Judges the claims of a study at the declared looks that its seeds reach.

    At each look the undecided main claims are read in ascending order of p, claim i of
    m at the look's level divided by m - i + 1, up to the first that stays undecided.
    Secondary claims are read at the look's level. A claim keeps the verdict of the look
    that decides it.

    With failed seeds, a claim is judged on the first seeds that did not fail, as many
    as the look has, and on the look's own seeds with the failed ones' values. If too
    few seeds remain, or the two verdicts differ, it is inconclusive.

    Args:
      claims: claims of the study.
      statistics: `{name: [seeds]}`.
      looks: ascending numbers of seeds, declared before the run. Later seeds are
        reported but do not count, except in place of failed ones.
      level: two-sided level of all looks together.
      failed: `{key: [seeds]}`, true for seeds in which a training that the claim needs
        failed. A value that is not finite marks a failed seed, too.

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
    failed = failed or {}
    found: dict[str, dict[str, Any]] = {}
    for look, alpha in zip(looks, verdicts.look_levels(looks, level), strict=True):
        waiting = [
            _sample(claim, values[claim.key], failed.get(claim.key), look)
            for claim in claims
            if len(values[claim.key]) >= look
            and found.get(claim.key, _OPEN)["verdict"] == "inconclusive"
        ]
        for sample, read in _order(waiting, alpha):
            judged = _judged(sample, read or alpha)
            if read is None:
                judged["verdict"] = "inconclusive"
            found[sample.claim.key] = judged
    out = []
    for claim in claims:
        own = values[claim.key]
        judged = found.get(claim.key)
        if judged is None:
            judged = _preview(claim, own, failed.get(claim.key), level)
        later = _listed(own[len(judged["values"]) :])
        out.append(judged | {"later_values": later})
    return out


_OPEN = {"verdict": "inconclusive"}


@dataclasses.dataclass(frozen=True, eq=False)
class _Sample:
    """What a claim is judged on at a look.

    Attributes:
      values: [look], as run.
      kept: [look] or fewer, of the first seeds that did not fail.
      failed: places of failed seeds in `values`.
      p: smallest level at which it is decided; 1 if none is.
    """

    claim: Claim
    values: np.ndarray
    kept: np.ndarray
    failed: list[int]
    p: float

    @property
    def judgeable(self) -> bool:
        """Whether enough seeds remain, and the failed ones have values."""
        return len(self.kept) >= len(self.values) and self.at_chance is not None

    @property
    def at_chance(self) -> np.ndarray | None:
        """The values as run; None if one is not finite."""
        return self.values if np.isfinite(self.values).all() else None


def _sample(claim: Claim, values: Any, failed: Any, look: int) -> _Sample:
    """Takes what a claim is judged on at a look.

    Raises:
      ValueError: a value of "mostly" is neither 0 nor 1.
    """
    array = np.asarray(values, np.float64)
    finite = np.isfinite(array)
    if claim.kind == "mostly" and not np.isin(array[finite], (0.0, 1.0)).all():
        raise ValueError(
            f"values of the claim {claim.key!r}, of the kind 'mostly', must be 0 or 1 "
            f"for each seed, got {array.tolist()}"
        )
    bad = ~finite if failed is None else ~finite | np.asarray(failed, bool)
    kept, own = array[~bad][:look], array[:look]
    where = np.flatnonzero(bad[:look]).tolist()
    sample = _Sample(claim, own, kept, where, 1.0)
    if not sample.judgeable:
        return sample
    samples = (kept, own) if where else (kept,)
    effect = claim.smallest_effect
    p = max(verdicts.p_value(claim.kind, effect, one) for one in samples)
    return dataclasses.replace(sample, p=p)


def _judged(sample: _Sample, level: float) -> dict[str, Any]:
    """Judges a sample at a level."""
    claim, kept, failed = sample.claim, sample.kept, sample.failed
    kind, effect = claim.kind, claim.smallest_effect

    def of(values, factor=1.0):
        own = verdicts.interval(kind, factor * effect, values, level)
        if own is None:
            return "inconclusive"
        return verdicts.verdict(kind, factor * effect, values.mean(), *own)

    def at(factor):
        found = {of(kept, factor)}
        if failed and sample.judgeable:
            found.add(of(sample.values, factor))
        return found.pop() if sample.judgeable and len(found) == 1 else "inconclusive"

    interval = verdicts.interval(kind, effect, kept, level)
    at_chance = None if sample.at_chance is None else of(sample.at_chance)
    return {
        **dataclasses.asdict(claim),
        "values": _listed(sample.values),
        "failed": failed,
        "num_seeds": len(kept),
        "mean": float(kept.mean()) if len(kept) else None,
        "interval": interval,
        "level": level,
        "p": None if interval is None else sample.p,
        "verdict": at(1.0),
        "verdict_left_out": of(kept) if failed else None,
        "verdict_at_chance": at_chance if failed else None,
        "verdict_at_half": at(0.5),
        "verdict_at_twice": at(2.0),
        "seeds_needed": verdicts.seeds_needed(kind, effect, kept, level),
        "look": len(sample.values) if len(sample.values) > 1 else None,
        "later_values": [],
    }


def _listed(values: np.ndarray) -> list[float | None]:
    """The values as JSON has them."""
    return [value if math.isfinite(value) else None for value in values.tolist()]


def _order(waiting: Sequence[_Sample], alpha: float):
    """Yields the samples of undecided claims, each with its level.

    The level is None for main claims after the first that stays undecided.
    """
    yield from ((sample, alpha) for sample in waiting if not sample.claim.main)
    main = sorted((s for s in waiting if s.claim.main), key=lambda s: s.p)
    open_ = True
    for left, sample in zip(range(len(main), 0, -1), main, strict=True):
        yield sample, alpha / left if open_ else None
        open_ = open_ and sample.p < alpha / left


def _preview(claim: Claim, values: np.ndarray, failed: Any, level: float) -> dict:
    """Returns the estimate for a claim before the first look, without a verdict."""
    judged = judge(claim, values, level=level, failed=failed) | {"look": None}
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
