"""Claims of a paper, declared before the run and judged by a fixed rule.

The preset states the statistic, the smallest effect that counts and the margin around
it. The verdict follows from the 95 % confidence interval of the mean over seeds. It is
"reproduced" if the interval lies wholly beyond the margin on the claimed side,
"contradicted" if it lies wholly beyond it on the other side, and otherwise
"inconclusive". Fewer than three seeds are always inconclusive.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from scipy import stats

from kd_heuristics.runtime import nearest

MINIMUM_SEEDS = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Claim:
    """Statement of a paper, as a number that a run can contradict.

    Attributes:
      key: name of the claim within its study. "barrier/sgdr/30-70" belongs to the
        families "barrier" and "barrier/sgdr", by which a figure may name its claims.
      statement: the claim in words.
      statistic: name of the statistic, one number per seed; paired differences are
        taken within a seed.
      direction: side of `smallest_effect` on which the paper's statistic lies.
      smallest_effect: smallest effect that counts, in the statistic's unit.
      margin: half-width of the undecided zone around `smallest_effect`, at least 0.
      unit: unit of the statistic.
      paper: the paper's own value, in the same unit; `None` if it gives none.
    """

    key: str
    statement: str
    statistic: str
    direction: Literal["above", "below"]
    smallest_effect: float
    margin: float
    unit: str
    paper: float | None = None

    def __post_init__(self):
        if not self.key or not self.statistic:
            raise ValueError(
                f"the claim {self.statement!r} needs a key and a statistic"
            )
        if self.margin < 0:
            raise ValueError(f"margin must not be negative, got {self.margin}")


def judge(claim: Claim, values: Any) -> dict[str, Any]:
    """Judge a claim by the statistic of each seed.

    Returns: the claim's fields and `values`, `mean`, `interval` (95 %, Student's t; two
    numbers, or None below three seeds) and `verdict`.

    >>> claim = Claim(key="rise", statement="it rises", statistic="rise",
    ...               direction="above", smallest_effect=0.0, margin=0.1, unit="nats")
    >>> judge(claim, [1.0, 1.1, 0.9])["verdict"]
    'reproduced'
    >>> judge(claim, [1.0, 1.1])["verdict"]
    'inconclusive'
    """
    array = np.asarray(values, np.float64)
    interval = confidence_interval(array)
    return {
        **dataclasses.asdict(claim),
        "values": array.tolist(),
        "mean": float(array.mean()),
        "interval": interval,
        "verdict": _verdict(claim, interval),
    }


def judge_all(
    claims: Sequence[Claim], statistics: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Judge each claim of a preset, see `judge`.

    Raises:
      ValueError: two claims have the same key, or a claim names an unknown statistic.
    """
    check(claims)
    for claim in claims:
        nearest.choose(
            claim.statistic, statistics, f"statistic of claim {claim.key!r}:"
        )
    return [judge(claim, statistics[claim.statistic]) for claim in claims]


def check(claims: Iterable[Claim]) -> None:
    """Raise ValueError if two claims have the same key."""
    seen: dict[str, str] = {}
    for claim in claims:
        if claim.key in seen:
            raise ValueError(
                f"two claims have the key {claim.key!r}: {seen[claim.key]!r} and "
                f"{claim.statement!r}"
            )
        seen[claim.key] = claim.statement


def covers(name: str, key: str) -> bool:
    """Whether a name is a claim's key, or a family of that key.

    >>> covers("barrier", "barrier/sgdr/30-70"), covers("bar", "barrier/sgdr/30-70")
    (True, False)
    """
    return key == name or key.startswith(f"{name}/")


def confidence_interval(values: Any, level: float = 0.95) -> list[float] | None:
    """Returns Student's t interval of the mean, [low, high]; None below three values.

    mean +- t(1 - (1 - level) / 2, n - 1) * s / sqrt(n), where s has divisor n - 1. Also
    None if a value is not finite.

    >>> [round(end, 3) for end in confidence_interval([1.0, 2.0, 3.0])]
    [-0.484, 4.484]
    """
    values = np.asarray(values, np.float64)
    if len(values) < MINIMUM_SEEDS or not np.isfinite(values).all():
        return None
    half = stats.t.ppf(0.5 + level / 2, len(values) - 1) * stats.sem(values)
    mean = values.mean()
    return [float(mean - half), float(mean + half)]


def summary(values: Any) -> dict[str, Any]:
    """Returns mean, standard deviation and values over seeds, as in results.json.

    >>> summary([1.0, 3.0])
    {'mean': 2.0, 'std': 1.4142135623730951, 'values': [1.0, 3.0]}
    """
    array = np.asarray(values, np.float64)
    spread = float(array.std(ddof=1)) if len(array) > 1 else None
    return {"mean": float(array.mean()), "std": spread, "values": array.tolist()}


def _verdict(claim: Claim, interval: list[float] | None) -> str:
    """Returns the verdict by the rule of this module."""
    if interval is None:
        return "inconclusive"
    low, high = interval
    sign = 1 if claim.direction == "above" else -1
    if sign < 0:
        low, high = -high, -low
    threshold = sign * claim.smallest_effect
    if low > threshold + claim.margin:
        return "reproduced"
    if high < threshold - claim.margin:
        return "contradicted"
    return "inconclusive"
