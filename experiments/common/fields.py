"""Types of config fields with their constraints; checks and derivation of values.

A config is a frozen dataclass. A field's annotation states which values it takes, and
the docstring below the field is its help on the command line. A field that follows from
others is `Derived` (`None` derives it) or a `Length` (a share of another length). The
config's method `derived()` returns their values, and `resolved` fills them in.
"""

import dataclasses
import math
import operator
import re
import types
import typing
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from annotated_types import Ge, Gt, Interval, IsFinite, Predicate

from kd_heuristics.runtime import nearest


def ascend(values: Sequence[float]) -> bool:
    """Whether no value is below its predecessor."""
    return list(values) == sorted(values)


T = TypeVar("T")
Count = Annotated[int, Ge(1)]
Natural = Annotated[int, Ge(0)]
Finite = IsFinite[float]
Positive = Annotated[float, Gt(0)]
NotNegative = Annotated[float, Ge(0)]
Fraction = Annotated[float, Interval(ge=0, lt=1)]
Share = Annotated[float, Interval(gt=0, le=1)]
Ascending = Predicate(ascend)
if TYPE_CHECKING:  # Studies see resolved configs only.
    Length = Any
    Derived = Annotated[T, "derived"]
    Seeds = Any
else:
    Length = Natural | Share  # `int`: epochs or steps; `float`: share of a length
    Derived = T | None
    Seeds = Count | Literal["auto"]
Looks = tuple[Count, ...]
Drops = Annotated[tuple[Length, ...], Ascending]
DERIVED: Any = None


def check(config: Any) -> None:
    """Raises ValueError if a field is ill-typed or out of range.

    The message names the field, its value and what it must be. Dataclasses inside the
    config have checked themselves.
    """
    hints = typing.get_type_hints(type(config), include_extras=True)
    for field in dataclasses.fields(config):
        value, hint = getattr(config, field.name), hints[field.name]
        words = _problem(field.name, value, hint)
        if words is not None:
            words = words or f"be of type {_kind(config, field.name)}"
            raise ValueError(f"{field.name} must {words}, got {value!r}")


def resolved(config: Any) -> Any:
    """Returns the config with derived fields filled in, also in nested configs."""
    parts = {n: v for n, v in vars(config).items() if dataclasses.is_dataclass(v)}
    changes = {name: _resolved_part(name, part) for name, part in parts.items()}
    changes |= derived(config)
    # Compared by repr: 1 and 1.0 are equal, but the second is a share.
    changes = {n: v for n, v in changes.items() if repr(v) != repr(getattr(config, n))}
    return dataclasses.replace(config, **changes) if changes else config


def derived(config: Any) -> dict[str, Any]:
    """Returns the values of the fields that follow from others."""
    found: dict[str, Any] = {}
    for kind in reversed(type(config).__mro__):  # each class adds its own
        found |= vars(kind).get("derived", _nothing)(config)
    return found


def _nothing(config: Any) -> dict[str, Any]:
    return {}


def _resolved_part(name: str, part: Any) -> Any:
    """Resolves a config inside another, whose errors name its field as well."""
    try:
        return resolved(part)
    except ValueError as error:
        if re.split(r"\W", str(error))[0] not in vars(part):
            raise
        raise type(error)(f"{name}.{error}") from None


def within(values: Sequence[int | float], length: int) -> tuple[int, ...]:
    """Converts shares of a length to integers, rounded down, at least 1.

    Integers stay as they are.

    >>> within((0.3, 0.75), 30), within((0.3, 0.6, 0.8), 2), within((60, 150), 30)
    ((9, 22), (1, 1, 1), (60, 150))
    """
    # 11 / 21 * 21_000 must be 11,000 despite floating-point rounding.
    return tuple(
        value if isinstance(value, int) else max(1, int(round(value * length, 6)))
        for value in values
    )


def drops(name: str, values: Sequence[int | float], length: int) -> tuple[int, ...]:
    """Converts drops of a learning rate as `within` does.

    Args:
      name: of the field.
      values: its value.
      length: of the training.

    Raises:
      ValueError: an integer lies past the end, where nothing would come of it.

    >>> drops("drops_epochs", (0.3, 25), 30)
    (9, 25)
    """
    past = [value for value in values if isinstance(value, int) and value > length]
    if past:
        raise ValueError(
            f"{name} must lie within a training of {length}, got {tuple(values)}, "
            f"with {', '.join(map(str, past))} past its end; give integers up to "
            f"{length}, or floats, which are shares"
        )
    return within(values, length)


def given(value: T | None, derived: T) -> T:
    """Returns the value that the user gave, else the derived one."""
    return derived if value is None else value


def _problem(name: str, value: Any, hint: Any) -> str | None:
    """Describes what a value must do; "" if its type is wrong, None if it is valid."""
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        found = _problem(name, value, inside[0])
        broken = (_words(rule) for rule in inside[1:] if not _holds(value, rule))
        return next(broken, None) if found is None else found
    if origin in _UNIONS:
        parts = [_problem(name, value, part) for part in inside]
        return None if None in parts else " or ".join(filter(None, parts))
    if origin is Literal and isinstance(value, str):
        nearest.choose(value, inside, name)
    if origin is Literal:
        return None if value in inside else ""
    if origin is tuple:
        if not isinstance(value, tuple):
            return ""
        kinds = inside[:1] * len(value) if inside[1:] == (...,) else inside
        found = [_problem(name, *pair) for pair in zip(value, kinds, strict=False)]
        first = next((words for words in found if words is not None), None)
        return first if len(value) == len(kinds) else ""
    if hint in (int, float):
        types_ = int if hint is int else (int, float)
        if isinstance(value, bool) or not isinstance(value, types_):
            return ""
        return None if math.isfinite(value) else "be finite"
    return "" if isinstance(hint, type) and not isinstance(value, hint) else None


_UNIONS = (typing.Union, types.UnionType)
_BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


def _bounds(rule):
    """Returns the bounds that a constraint sets, by name."""
    bounds = {name: getattr(rule, name, None) for name in _BOUNDS}
    return {name: bound for name, bound in bounds.items() if bound is not None}


def _holds(value: Any, rule: Any) -> bool:
    if isinstance(rule, Predicate):
        return rule.func(value)
    return all(getattr(operator, n)(value, b) for n, b in _bounds(rule).items())


def _words(rule: Any) -> str:
    """Describes a constraint in words: "be in [0, 1)"."""
    if isinstance(rule, Predicate):
        return rule.func.__name__
    bounds = _bounds(rule)
    if len(bounds) == 2:
        left, right = "[" if "ge" in bounds else "(", "]" if "le" in bounds else ")"
        return f"be in {left}{', '.join(map(str, bounds.values()))}{right}"
    ((name, bound),) = bounds.items()
    return "be positive" if bounds == {"gt": 0} else f"be {_BOUNDS[name]} {bound}"


def _kind(config: Any, name: str) -> str:
    """Describes a field's type, without its constraints."""
    hint = typing.get_type_hints(type(config))[name]
    parts = typing.get_args(hint) if typing.get_origin(hint) in _UNIONS else (hint,)
    words = (part.__name__ if isinstance(part, type) else str(part) for part in parts)
    return " | ".join(dict.fromkeys(words)).replace("NoneType", "None")
