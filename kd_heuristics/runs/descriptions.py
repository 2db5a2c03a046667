"""Descriptions of runs as JSON, and differences between two of them."""

import dataclasses
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np


def to_json(value: Any) -> Any:
    """Converts dataclasses, tuples, NumPy numbers and arrays; non-finite becomes null.

    >>> to_json({"a": (1, np.float32(0.5)), "b": float("nan")})
    {'a': [1, 0.5], 'b': None}
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | jax.Array):
        value = np.asarray(value).tolist()
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def identity(described: Any) -> Any:
    """Returns the part of a description that determines numbers and verdicts.

    From a claim it keeps the rule, not the words or the paper's number.

    >>> claim = {"statement": "It rises.", "statistic": "rise", "margin": 0.1}
    >>> identity({"study": "s", "question": "Does it?", "claims": [claim]})
    {'study': 's', 'claims': {'rise': [{'margin': 0.1}]}}
    """
    if not isinstance(described, dict):
        return described
    found = {key: described[key] for key in _DECIDES if key in described}
    claims = found.get("claims")
    if isinstance(claims, list) and all(isinstance(claim, dict) for claim in claims):
        by_name: dict[str, list] = {}
        for claim in claims:
            rule = {key: value for key, value in claim.items() if key not in _OF_CLAIMS}
            name = claim.get("statistic") or claim.get("key")
            by_name.setdefault(str(name), []).append(rule)
        found["claims"] = by_name
    return found


_DECIDES = ("study", "config", "own", "strategies", "claims")
_OF_CLAIMS = ("key", "statistic", "statement", "words", "unit", "paper")


def keep_free(old: Any, new: dict[str, Any], free: Sequence[str]) -> dict[str, Any]:
    """Returns a new description with the free fields of the old one."""
    kept = {**new}
    for part in ("config", "deviations"):
        if isinstance(kept.get(part), dict):
            there = {k: v for k, v in old.get(part, {}).items() if k in free}
            kept[part] = {k: v for k, v in new[part].items() if k not in free} | there
    return kept


def extends(found: Sequence[tuple[str, Any, Any]], extendable: Collection[str]) -> bool:
    """Whether all differences are extendable fields that became larger."""
    return all(
        key.removeprefix("config.") in extendable
        and isinstance(old, int)
        and isinstance(new, int)
        and new >= old
        for key, old, new in found
    )


def is_free(key: str, free: Sequence[str]) -> bool:
    """Whether a difference is in a field that may differ."""
    part, _, field = key.partition(".")
    return part == "config" and field.partition(".")[0] in free


def differences(old: Any, new: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yields (path, old, new) for each difference of two descriptions.

    >>> [*differences({"config": {"a": 1, "b": 2}}, {"config": {"a": 1, "b": 3}})]
    [('config.b', 2, 3)]
    """
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            where = f"{path}.{key}" if path else key
            yield from differences(old.get(key), new.get(key), where)
    elif old != new:
        yield path, old, new
