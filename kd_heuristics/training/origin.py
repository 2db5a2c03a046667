"""What a training was given, recorded so that a resume can name what differs."""

import dataclasses
import functools
import hashlib
import inspect
from collections.abc import Mapping
from typing import Any, SupportsIndex

import jax
import numpy as np

from kd_heuristics.compiled import as_partial
from kd_heuristics.integers import integer

_SHOWN = 16  # numbers of an array that are kept as they are
_READ = 2**20  # of a larger array only the shape is compared


class ResumeWarning(UserWarning):
    """A training resumes a checkpoint with another seed, rate or bound array."""


def origin(objective: Any, optimizer: Any, seed: SupportsIndex) -> dict[str, Any]:
    """A training's seed and numbers as JSON, by name.

    Of the optimiser these are the numbers that its functions enclose (a rate, a decay,
    a schedule's period) or that are bound to it; of the objective the bound ones.

    >>> def scaled(rate):
    ...     return lambda x: rate * x
    >>> origin(max, scaled(0.5), 3)
    {'seed': 3, 'optimizer.rate': 0.5}
    """
    found: dict[str, Any] = {"seed": integer("seed", seed)}
    for index, leaf in enumerate(jax.tree.leaves(as_partial(objective))):
        found[f"objective[{index}]"] = _number(leaf)
    _collect("optimizer", optimizer, found, set())
    return found


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """In words; none for equal ones."""
    return [
        f"{name} was {_words(old, name)} and is {_words(new, name)}"
        for name in dict.fromkeys((*old, *new))
        # 20 is 20.0, and NaN, by its words, itself.
        if old.get(name) != new.get(name) and _words(old, name) != _words(new, name)
    ]


def _words(found, name):
    return str(found.get(name, "absent"))


def _number(leaf) -> Any:
    """A number, a short list of them, or what a larger array is known by."""
    if isinstance(leaf, jax.Array):
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        if not leaf.is_fully_addressable:
            return f"{leaf.dtype}{list(leaf.shape)}"
    if np.size(leaf) > _READ:
        return f"{np.asarray(leaf).dtype}{list(np.shape(leaf))}"
    array = np.asarray(leaf)
    if array.size <= _SHOWN and array.dtype.kind in "biuf":
        return array.tolist()
    digest = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:12]
    return f"{array.dtype}{list(array.shape)} {digest}"


def _collect(name, thing, found, seen):
    """Adds the numbers that a function, a partial or a container holds."""
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
    if isinstance(thing, functools.partial):  # jax.tree_util.Partial is one
        yield "", thing.func
        yield "", thing.args
        yield "", thing.keywords
    elif inspect.ismethod(thing):
        yield "", thing.__func__
        yield "", thing.__self__
    elif inspect.isfunction(thing):
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
    try:
        return cell.cell_contents
    except ValueError:  # not set
        return None
