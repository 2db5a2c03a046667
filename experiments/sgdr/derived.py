"""Choice of the iterates that a run keeps: ends of cycles, around drops, on planes.

w_n is the iterate after epoch n, counted from 0. The paper names the end of a cycle by
the number of epochs until then, since its cycles hold their end value for an epoch.
`offset` is 0 with the paper's names, and 1 with exact restarts.
"""

import itertools
from collections.abc import Sequence

from kd_heuristics import schedules

Pair = tuple[int, int]
_QUARTERS = (1 / 4, 1 / 2, 3 / 4)


def ends(period: int, mult: int, epochs: int, offset: int) -> list[int]:
    """Returns the ends of the cycles or, if fewer than two, first and last iterate.

    >>> ends(10, 2, 200, offset=0), ends(2, 2, 30, offset=1), ends(10, 2, 10, offset=0)
    ([10, 30, 70, 150], [1, 5, 13, 29], [0, 9])
    """
    restarts = schedules.sgdr_restarts(period, mult, epochs + offset)
    return [r - offset for r in restarts] if len(restarts) > 1 else [0, epochs - 1]


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
