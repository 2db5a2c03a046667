"""Results and arrays of blocks of seeds, put together."""

import fnmatch
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kd_heuristics.runs import summary


def arrays(
    found: Sequence[dict[str, np.ndarray]], seeds: Sequence[int], shared: Sequence[str]
) -> dict[str, np.ndarray]:
    """Joins the arrays of blocks along their leading axis of seeds.

    Args:
      found: arrays of each block, by name.
      seeds: number of seeds of each block.
      shared: patterns of names of arrays without such an axis; the first block's stay.

    Raises:
      ValueError: an array that is not shared has no axis of seeds.
    """
    for block, count in zip(found, seeds, strict=True):
        check(block, count, shared)
    return {
        name: first
        if _matches(name, shared)
        else np.concatenate([block[name] for block in found])
        for name, first in found[0].items()
    }


def check(found: Mapping[str, Any], seeds: int, shared: Sequence[str]) -> None:
    """Raises ValueError if an array that is not shared has no axis of seeds."""
    for name, array in found.items():
        # Some arms have one seed.
        if not _matches(name, shared) and np.shape(array)[:1] not in ((seeds,), (1,)):
            raise ValueError(
                f"the array {name!r} of shape {np.shape(array)} has no leading axis of "
                f"{seeds} seeds; name it in the study's `shared`"
            )


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def results(found: Sequence[Any], names: Sequence[str]) -> Any:
    """Joins the results of blocks, as JSON.

    Summaries are of all seeds, lists of seeds or of networks are joined, and floats
    that differ become their mean. Anything else that differs stands by block.

    Args:
      found: of each block.
      names: of the blocks.

    >>> results([{"a": summary([1.0]), "n": 2}, {"a": summary([3.0]), "n": 2}], "xy")
    {'a': {'mean': 2.0, 'std': 1.4142135623730951, 'values': [1.0, 3.0]}, 'n': 2}
    """
    first = found[0]
    if all(isinstance(own, dict) for own in found):
        if all({*own} == {"mean", "std", "values"} for own in found):
            return _summary([value for own in found for value in own["values"]])
        keys = dict.fromkeys(key for own in found for key in own)
        return {key: _at(key, found, names) for key in keys}
    if all(own == first for own in found):
        return first
    if all(isinstance(own, list) for own in found):
        rows = len({len(own) for own in found}) == 1
        if rows and all(isinstance(row, dict) for own in found for row in own):
            return [results(row, names) for row in zip(*found, strict=True)]
        return [value for own in found for value in own]
    if all(isinstance(own, float) for own in found):
        return math.fsum(found) / len(found)
    return dict(zip(names, found, strict=True))


def _at(key, found, names):
    """Joins what the blocks that have a key hold there."""
    pairs = [(own[key], n) for own, n in zip(found, names, strict=True) if key in own]
    there, of = zip(*pairs, strict=True)
    return results(there, of)


def _summary(values):
    """A summary in which null stands for what is not finite, as in results.json."""
    found = summary([math.nan if value is None else value for value in values])
    return found | {"values": values}
