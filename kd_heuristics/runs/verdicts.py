"""Rules by which claims are judged, and the statistics that they use.

| kind | reproduced | contradicted | no effect that counts |
|---|---|---|---|
| difference | low > 0 and mean >= d | high < 0 and mean <= -d | -d < low and high < d |
| as_good | low > -d | high < -d | |
| equal | -d < low and high < d | low > d or high < -d | |
| mostly | low > 1/2 | high < 1/2 | |

Everything else is inconclusive. `d` is the smallest effect that counts and [low, high]
an interval of the mean over seeds, signed so that the claimed direction is positive.
The interval is Student's t of paired differences; for "mostly", whose values are 0 or 1
for each seed, it is Clopper and Pearson's of the share of seeds.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
from scipy import special

from kd_heuristics.runtime import nearest

Verdict = Literal["reproduced", "contradicted", "no effect that counts", "inconclusive"]
KINDS = ("difference", "as_good", "equal", "mostly")
VERDICTS: tuple[str, ...] = get_args(Verdict)
VERSION = 1  # of the rules; stored with numbers that are judged later


def verdict(
    kind: str, smallest_effect: float, mean: float, low: float, high: float
) -> Verdict:
    """Returns the verdict on an interval, by the table of this module.

    Args:
      kind: kind of the claim.
      smallest_effect: smallest effect that counts, positive.
      mean: mean over seeds; the share of seeds for "mostly".
      low: lower end of the interval.
      high: upper end of the interval.

    Raises:
      ValueError: the kind is unknown, or the smallest effect is not positive.

    >>> verdict("difference", 1.0, mean=1.4, low=0.3, high=2.5)
    'reproduced'
    >>> verdict("difference", 1.0, mean=0.1, low=-0.6, high=0.8)
    'no effect that counts'
    >>> verdict("as_good", 1.0, mean=-0.4, low=-0.9, high=0.1)
    'reproduced'
    """
    if kind not in KINDS:
        nearest.choose(kind, KINDS, "kind")
    check_effect(smallest_effect)
    d = smallest_effect
    found = {
        "difference": (
            low > 0 and mean >= d,
            high < 0 and mean <= -d,
            -d < low and high < d,
        ),
        "as_good": (low > -d, high < -d),
        "equal": (-d < low and high < d, low > d or high < -d),
        "mostly": (low > 0.5, high < 0.5),
    }[kind]
    for name, holds in zip(VERDICTS, found, strict=False):
        if holds:
            return name  # pyrefly: ignore
    return "inconclusive"


def check_effect(smallest_effect: float) -> None:
    """Raises ValueError if the smallest effect that counts is not positive."""
    if not (0 < smallest_effect < math.inf):
        raise ValueError(
            f"smallest_effect must be positive and finite, got {smallest_effect}; "
            "give the smallest effect that counts, in the unit of the claim"
        )


def interval(
    kind: str, smallest_effect: float, values: Any, level: float = 0.05
) -> list[float] | None:
    """Returns the two-sided interval of the mean over seeds; None below two seeds.

    Args:
      kind: kind of the claim.
      smallest_effect: a quarter of it stands for the standard deviation if all values
        are equal.
      values: [seeds], finite; 0 or 1 for "mostly".
      level: share of intervals that miss the truth.

    Returns: `[low, high]`.

    >>> [round(end, 2) for end in interval("difference", 1.0, [1.0, 2.0, 3.0])]
    [-0.48, 4.48]
    >>> [round(end, 2) for end in interval("mostly", 1.0, [1, 1, 1, 1, 1, 1])]
    [0.54, 1.0]
    """
    values = np.asarray(values, np.float64)
    if len(values) < 2:
        return None
    low, high = _ends(kind, smallest_effect, values, level, len(values))
    return [float(low), float(high)]


def _ends(kind: str, smallest_effect: float, values: np.ndarray, level: float, n: Any):
    """Ends of the interval for `n` seeds with the mean and deviation of `values`.

    `n` is a number or an array of numbers; both ends have its shape.
    """
    mean = values.mean()
    if kind == "mostly":
        k = np.round(mean * n)
        # Quantiles of beta distributions; of none they are 0, of all 1.
        low = special.betaincinv(np.maximum(k, 1), n - k + 1, level / 2)
        high = special.betaincinv(k + 1, np.maximum(n - k, 1), 1 - level / 2)
        return np.where(k == 0, 0.0, low), np.where(k == n, 1.0, high)
    deviation = _deviation(values, smallest_effect)
    half = special.stdtrit(n - 1, 1 - level / 2) * deviation / np.sqrt(n)
    return mean - half, mean + half


def wilson(count: int, of: int, level: float = 0.05) -> list[float]:
    """Returns Wilson's interval (1927) of a share, such as of failed trainings.

    >>> [round(end, 3) for end in wilson(1, 12)]
    [0.015, 0.354]
    """
    from scipy import stats  # takes a second to import

    found = stats.binomtest(count, of).proportion_ci(1 - level, "wilson")
    return [float(found.low), float(found.high)]


def p_value(kind: str, smallest_effect: float, values: Any) -> float:
    """Returns the smallest level at which the table decides a claim; 1 if none does.

    Args:
      kind: kind of the claim.
      smallest_effect: smallest effect that counts.
      values: [seeds], finite.
    """
    values = np.asarray(values, np.float64)
    n, d = len(values), smallest_effect
    if n < 2:
        return 1.0
    if kind == "mostly":
        k = values.sum()
        tail = min(special.bdtrc(k - 1, n, 0.5), special.bdtr(k, n, 0.5))
        return float(min(1.0, 2 * tail))
    mean = values.mean()
    error = _deviation(values, d) / math.sqrt(n)

    def above(bound):  # the level at which the interval lies above the bound
        return 2 * special.stdtr(n - 1, (bound - mean) / error)

    def below(bound):
        return 2 * special.stdtr(n - 1, (mean - bound) / error)

    inside = max(above(-d), below(d))
    ways = {
        "difference": (
            above(0.0) if mean >= d else 1.0,
            below(0.0) if mean <= -d else 1.0,
            inside,
        ),
        "as_good": (above(-d), below(-d)),
        "equal": (inside, above(d), below(-d)),
    }[kind]
    return float(min(1.0, *ways))


def _deviation(values: np.ndarray, smallest_effect: float) -> float:
    """Standard deviation over seeds; a quarter of the effect if all are equal."""
    if np.ptp(values) == 0:
        return smallest_effect / 4
    return float(values.std(ddof=1))


def seeds_needed(
    kind: str, smallest_effect: float, values: Any, level: float, most: int = 1000
) -> int | None:
    """Number of seeds that would decide a claim if mean and spread stayed the same.

    Args:
      kind: kind of the claim.
      smallest_effect: smallest effect that counts.
      values: [seeds], finite, at least two.
      level: level at which it is judged.
      most: largest number to try.

    Returns: the smallest number from 2 on; None if no number up to `most` decides it.
    """
    values = np.asarray(values, np.float64)
    if len(values) < 2:
        return None
    n, mean = np.arange(2, most + 1), float(values.mean())
    low, high = _ends(kind, smallest_effect, values, level, n)
    decided = (
        verdict(kind, smallest_effect, mean, *ends) != "inconclusive"
        for ends in zip(low.tolist(), high.tolist(), strict=True)
    )
    return next((int(n) for n, there in zip(n, decided, strict=True) if there), None)


def look_levels(looks: Sequence[int], level: float = 0.05) -> list[float]:
    """Returns two-sided levels for declared looks at growing numbers of seeds.

    O'Brien and Fleming's boundaries (1979): the standardised mean at look k must pass
    c * sqrt(n_K / n_k), with c such that the chance of passing any of them is `level`.

    Args:
      looks: ascending numbers of seeds.
      level: level of all looks together.

    Raises:
      ValueError: a look is below 2, or the looks do not ascend.

    >>> [round(found, 4) for found in look_levels([4, 8, 12])]
    [0.0005, 0.0141, 0.0451]
    >>> look_levels([5])
    [0.05]
    """
    check_looks(looks)
    if len(looks) == 1:
        return [level]
    shares = np.array(looks) / looks[-1]

    def excess(c):
        return _chance_of_passing(c, shares) - level

    from scipy import optimize  # takes half a second to import

    c: Any = optimize.brentq(excess, 1.0, 6.0, xtol=1e-6)
    return [float(2 * special.ndtr(-c / math.sqrt(share))) for share in shares]


def check_looks(looks: Sequence[int]) -> None:
    """Raises ValueError if looks do not ascend, or one is below 2."""
    looks = [*looks]
    if not looks or looks[0] < 2 or any(b <= a for a, b in itertools.pairwise(looks)):
        raise ValueError(
            f"looks must be ascending numbers of seeds, at least 2, got {looks}"
        )


def _chance_of_passing(c: float, shares: np.ndarray) -> float:
    """Chance that a Brownian motion B has |B(t)| >= c at one of the times t."""
    nodes, weights = np.polynomial.legendre.leggauss(200)
    nodes, weights = c * nodes, c * weights
    inside = _density(nodes, shares[0])
    for step in np.diff(shares):
        move = _density(nodes[:, None] - nodes, step)
        inside = move @ (weights * inside)
    return 1 - float(weights @ inside)


def _density(x: np.ndarray, variance: float) -> np.ndarray:
    """The normal density of mean 0."""
    return np.exp(-(x**2) / (2 * variance)) / math.sqrt(2 * math.pi * variance)
