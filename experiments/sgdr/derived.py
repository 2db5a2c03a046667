"""Choice of the iterates that a run keeps: ends of cycles, around drops, on planes.

w_n is the iterate after epoch n, counted from 0. The paper names the end of a cycle by
the number of epochs until then, since its cycles hold their end value for an epoch.
`offset` is 0 with the paper's names, and 1 with exact restarts.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any

from experiments.common import fields
from kd_heuristics import schedules

Pair = tuple[int, int]
_QUARTERS = (1 / 4, 1 / 2, 3 / 4)
_SHORT = 6  # minima of short cycles, if so many fit


def ends(period: int, mult: int, epochs: int, offset: int) -> list[int]:
    """Returns the ends of the cycles or, if fewer than two, first and last iterate.

    >>> ends(10, 2, 200, offset=0), ends(2, 2, 30, offset=1), ends(10, 2, 10, offset=0)
    ([10, 30, 70, 150], [1, 5, 13, 29], [0, 9])
    """
    restarts = schedules.sgdr_restarts(period, mult, epochs + offset)
    return [r - offset for r in restarts] if len(restarts) > 1 else [0, epochs - 1]


def minima(period: int, mult: int, epochs: int, inclusive: bool) -> tuple[int, ...]:
    """Returns the epochs at whose ends SGDR's rate is at its lowest, () without any.

    `inclusive` cycles also hold their end value for an epoch.

    >>> minima(8, 2, 56, inclusive=False), minima(10, 2, 100, inclusive=True)
    ((7, 23, 55), (10, 31, 72))
    """
    restarts = schedules.sgdr_restarts(period, mult, epochs + 1, inclusive=inclusive)
    return tuple(restart - 1 for restart in restarts)


def branches(places: Sequence[int | float], length: int) -> tuple[int, ...]:
    """Returns numbers of epochs, rounded down, each once; integers stay as they are.

    >>> branches((0, 1 / 7, 3 / 7), 56), branches((0, 1 / 7, 1 / 2), 2)
    ((0, 8, 24), (0, 1))
    """
    found = [p if isinstance(p, int) else int(round(p * length, 6)) for p in places]
    return tuple(dict.fromkeys(found))


def check_within(name: str, epochs: int, last: int) -> None:
    """Raises ValueError unless epochs lie within a training up to its last minimum."""
    if epochs > last + 1:
        raise ValueError(
            f"{name} must lie within SGDR's epochs up to its last minimum, {last + 1}, "
            f"got {epochs}; give a share such as 0.5"
        )


def short(epochs: int | float, minima: int | None, length: int) -> tuple[int, int]:
    """Returns the epochs of each short cycle of fge, and the number of its minima.

    Args:
      epochs: of each cycle; a float is a share of `length`.
      minima: their number; `None` takes six, or as many as fit.
      length: epochs of the training.

    >>> short(1 / 28, None, 56), short(1 / 28, None, 2), short(3, None, 10)
    ((2, 6), (1, 2), (3, 3))
    """
    (period,) = fields.within((epochs,), length)
    fit = math.ceil(length / period + 0.5) - 1  # the last cycle ends at its middle
    return period, fields.given(minima, max(1, min(_SHORT, fit)))


def check_short(config: Any) -> None:
    """Raises ValueError unless short cycles fit in before SGDR's last minimum."""
    high, low = config.fge_rates
    if low >= high:
        raise ValueError(
            f"fge_rates must be the higher rate, then the lower, got {(high, low)}"
        )
    needed = (config.fge_minima - 0.5) * config.fge_epochs
    if needed >= config.last_minimum + 1:
        raise ValueError(
            f"fge_minima must fit before SGDR's last minimum, after "
            f"{config.last_minimum + 1} epochs: cycles of {config.fge_epochs} epochs "
            f"with {config.fge_minima} minima take {needed:g}; give fge_minima None, "
            "or a smaller fge_epochs"
        )
    if not config.averaged:
        raise ValueError(
            "averaged must be set for the arm fge, whose result is an ensemble, got "
            "False"
        )


def chained(epochs: Sequence[int]) -> tuple[Pair, ...]:
    """Pairs neighbours, then the first and the last of three or more.

    >>> chained([30, 70, 150])
    ((30, 70), (70, 150), (30, 150))
    """
    pairs = *itertools.pairwise(epochs), (epochs[0], epochs[-1])
    return tuple(dict.fromkeys(pairs))


def reach(epochs: int) -> int:
    """Returns the epochs around a drop or after a restart: a 40th of the training."""
    return max(1, epochs // 40)


def around(drops: Sequence[int], epochs: int, offset: int) -> tuple[Pair, ...]:
    """Returns pairs around the first drop, the last, and both; () without drops.

    >>> around((60, 150), 200, offset=0), around((9, 22), 30, offset=1)
    (((55, 65), (145, 155), (55, 155)), ((7, 10), (20, 23), (7, 23)))
    """
    pairs = []
    for drop in (drop for drop in drops if 0 < drop < epochs):
        side = min(reach(epochs), drop - offset, epochs - 1 - drop)
        pairs.append((drop - max(1, side + offset), drop + side))
    over = [(pairs[0][0], pairs[-1][1])] if pairs else []
    return tuple(dict.fromkeys(pairs[:1] + pairs[-1:] + over))


def to_the_end(first: Pair, epochs: int) -> tuple[Pair, ...]:
    """Returns a pair, its later iterate with the last one, and the whole span.

    >>> to_the_end((14, 17), 56), to_the_end((0, 1), 2)
    (((14, 17), (17, 55), (14, 55)), ((0, 1),))
    """
    return chained([*dict.fromkeys((*first, epochs - 1))])


def compared(cycles: Sequence[int], epochs: int, offset: int) -> tuple[Pair, Pair]:
    """Returns iterates around the last restart, and at the first and last end.

    >>> compared([10, 30, 70, 150], 200, offset=0), compared([0, 2], 3, offset=1)
    (((150, 155), (10, 150)), ((0, 1), (0, 2)))
    """
    before = max(end for end in cycles if end + 1 < epochs)
    limit = min((end for end in cycles if end > before), default=epochs) - 1
    after = max(before + 1, min(before + reach(epochs) + offset, limit))
    return (before, after), (cycles[0], cycles[-1])


def on_planes(planes: Sequence[Pair], places: Sequence[int | float]) -> tuple[int, ...]:
    """Returns the epochs of the iterates that planes show; integers stay as they are.

    Args:
      planes: pairs of the planes.
      places: shares of the way along the first pair. Other pairs use quarters.

    >>> on_planes([(70, 150), (30, 70)], (1 / 8, 1 / 2))
    (40, 50, 60, 80, 110)
    """
    if all(isinstance(place, int) for place in places):
        return tuple(map(int, places))
    whole = {place for place in places if isinstance(place, int)}
    shares = [place for place in places if not isinstance(place, int)]
    for index, (a, b) in enumerate(planes):
        found = {a + int(s * (b - a)) for s in (_QUARTERS if index else shares)}
        whole |= found - {a, b}
    return tuple(sorted(whole))
