"""What a run is, as JSON, and how two descriptions differ."""

import dataclasses
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np


def to_json(value: Any) -> Any:
    """Dataclasses, tuples, NumPy numbers and arrays as JSON; non-finite as null.

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


def extends(found: Sequence[tuple[str, Any, Any]], extendable: Collection[str]) -> bool:
    """Whether all that differs is larger fields, and what follows from them."""
    for key, old, new in found:
        field = key.removeprefix("config.")
        if field in extendable and isinstance(old, int) and isinstance(new, int):
            if new < old:
                return False
        elif key.partition(".")[0] != "deviations":
            return False
    return True


def is_free(key: str, free: Sequence[str]) -> bool:
    """Whether a difference is of a field that may differ, or follows from it."""
    parts = key.split(".")
    return len(parts) > 1 and parts[0] in ("config", "deviations") and parts[1] in free


def differences(old: Any, new: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Where two descriptions differ: (path, old, new).

    >>> [*differences({"config": {"a": 1, "b": 2}}, {"config": {"a": 1, "b": 3}})]
    [('config.b', 2, 3)]
    """
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            where = f"{path}.{key}" if path else key
            yield from differences(old.get(key), new.get(key), where)
    elif old != new:
        yield path, old, new
