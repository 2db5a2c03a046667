"""Seed and numbers of a checkpoint's training, to report differences at a resume."""

import dataclasses
import functools
import hashlib
import inspect
from collections.abc import Mapping
from typing import Any, SupportsIndex

import jax
import numpy as np

from kd_heuristics.runtime.compiled import as_partial
from kd_heuristics.runtime.leaves import described, key_data
from kd_heuristics.runtime.values import integer

_SHOWN = 16  # arrays up to this size are recorded number by number
_READ = 2**20  # arrays above this size are compared by shape only


class ResumeWarning(UserWarning):
    """Warning that a training resumes with another seed, rate or bound array."""


def provenance(objective: Any, optimizer: Any, seed: SupportsIndex) -> dict[str, Any]:
    """Returns a training's seed and numbers as JSON, by name.

    The numbers of the optimiser are those that its functions enclose (a rate, a decay,
    a schedule's period) or that are bound to it; those of the objective are the bound
    ones.

    >>> def scaled(rate):
    ...     return lambda x: rate * x
    >>> provenance(max, scaled(0.5), 3)
    {'seed': 3, 'optimizer.rate': 0.5}
    """
    found: dict[str, Any] = {"seed": integer("seed", seed)}
    for index, leaf in enumerate(jax.tree.leaves(as_partial(objective))):
        found[f"objective[{index}]"] = _number(leaf)
    _collect("optimizer", optimizer, found, set())
    return found


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Returns differences of two provenances in words; [] if they are equal."""
    return [
        f"{name} was {_words(old, name)} and is {_words(new, name)}"
        for name in dict.fromkeys((*old, *new))
        # 20 equals 20.0; NaN equals itself by its text.
        if old.get(name) != new.get(name) and _words(old, name) != _words(new, name)
    ]


def _words(found, name):
    """Returns an entry as text, or "absent"."""
    return str(found.get(name, "absent"))


def _number(leaf) -> Any:
    """Returns a number, a short list of numbers, or a larger array's fingerprint."""
    if isinstance(leaf, jax.Array):
        leaf = key_data(leaf)
        if not leaf.is_fully_addressable:
            return described(leaf)
    if np.size(leaf) > _READ:
        return described(leaf)
    array = np.asarray(leaf)
    if array.size <= _SHOWN and array.dtype.kind in "biuf":
        return array.tolist()
    digest = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:12]
    return f"{described(array)} {digest}"


def _collect(name, thing, found, seen):
    """Add the numbers that a function, a partial or a container holds to `found`."""
    if isinstance(thing, jax.core.Tracer):
        return
    if isinstance(thing, bool | int | float | np.ndarray | np.generic | jax.Array):
        found[name] = _number(thing)
        return
    if id(thing) in seen:
        return
    seen.add(id(thing))
    for part, inside in _parts(thing):
        _collect(f"{name}{part}", inside, found, seen)


def _parts(thing):
    """Yield the name and value of each part of a function or container."""
    if isinstance(thing, functools.partial):  # jax.tree_util.Partial is one
        yield "", thing.func
        yield "", thing.args
        yield "", thing.keywords
    elif inspect.ismethod(thing):
        yield "", thing.__func__
        yield "", thing.__self__
    elif inspect.isfunction(thing):
        # A wrapper holds its function too: named alike with and without it.
        yield "", getattr(thing, "__wrapped__", ())
        for name, cell in zip(
            thing.__code__.co_freevars, thing.__closure__ or (), strict=True
        ):
            yield f".{name}", _content(cell)
        yield "", thing.__defaults__
        yield "", thing.__kwdefaults__
    elif dataclasses.is_dataclass(thing) and not isinstance(thing, type):
        for field in dataclasses.fields(thing):
            yield f".{field.name}", getattr(thing, field.name)
    elif isinstance(thing, Mapping):
        for key, value in thing.items():
            yield f".{key}", value
    elif isinstance(thing, tuple | list):
        names = getattr(thing, "_fields", None)
        for index, value in enumerate(thing):
            yield f".{names[index]}" if names else f"[{index}]", value


def _content(cell):
    """Returns a closure cell's value, or `None` if it is not set."""
    try:
        return cell.cell_contents
    except ValueError:  # not set
        return None
