"""What every config is checked for before any device work: types, ranges, conflicts.

The range of a field follows from its name, so that a new study's fields are checked as
the old ones are; `test_fields.py` says where a name has no rule.
"""

import dataclasses
import math
import types
import typing
from collections.abc import Callable
from typing import Any, Literal

from kd_heuristics.runtime import nearest

Rule = tuple[str, Callable[[Any], bool]]

COUNT: Rule = ("at least 1", lambda value: value >= 1)
NATURAL: Rule = ("at least 0", lambda value: value >= 0)
POSITIVE: Rule = ("positive", lambda value: value > 0)
NOT_NEGATIVE: Rule = ("not negative", lambda value: value >= 0)
FRACTION: Rule = ("in [0, 1)", lambda value: 0 <= value < 1)
FACTOR: Rule = ("in (0, 1]", lambda value: 0 < value <= 1)
FINITE: Rule = ("finite", lambda value: True)

# The first that a name ends with. Elements of tuples have the rule of their field.
RULES: dict[str, Rule] = {
    "end_rate": NOT_NEGATIVE,
    "init_rate": NOT_NEGATIVE,
    "dropout_rate": FRACTION,
    "momentum": FRACTION,
    "rate": POSITIVE,
    "drop_factor": FACTOR,
    "fraction": FACTOR,
    "area": FACTOR,
    "rates": POSITIVE,
    "decays": NOT_NEGATIVE,
    "paper": FINITE,
    "factor": POSITIVE,
    "width": POSITIVE,
    "norm": POSITIVE,
    "temperature": POSITIVE,
    "temperatures": POSITIVE,
    "perplexity": POSITIVE,
    "decay": NOT_NEGATIVE,
    "weight": NOT_NEGATIVE,
    "margin": NOT_NEGATIVE,
    "smallest_effect": FINITE,
    "as_good_as": FINITE,
    "first_seed": NATURAL,
    "padding": NATURAL,
    "first_stage_epochs": NATURAL,
    "teacher_epochs": NATURAL,
    "other_epochs": NATURAL,
    "warmup_steps": NATURAL,
    "workers": NATURAL,
    "pairs": NATURAL,
    "planes": NATURAL,
    "drops": NATURAL,
    "drops_epochs": NATURAL,
    "plane_iterates": NATURAL,
    "epochs": COUNT,
    "steps": COUNT,
    "batch_size": COUNT,
    "examples": COUNT,
    "seeds": COUNT,
    "devices": COUNT,
    "at_once": COUNT,
    "micro_batches": COUNT,
    "intervals": COUNT,
    "grid": COUNT,
    "mult": COUNT,
    "nets": COUNT,
    "points": COUNT,
    "size": COUNT,
    "crops": COUNT,
    "source_classes": COUNT,
    "num_t": COUNT,
}
ASCENDING = ("drops", "drops_epochs")


def check(config: Any) -> None:
    """Raises where a config's fields are ill-typed, out of range or at odds.

    Args:
      config: a dataclass; those inside it have been checked when they were made.

    Raises:
      ValueError: with the field, its value and what it must be.
    """
    hints = typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        _check_type(field.name, value, hints[field.name])
        for number in _numbers(value):
            _check_range(field.name, value, number)
        if field.name in ASCENDING and list(value) != sorted(value):
            raise ValueError(f"{field.name} must ascend, got {value}")
    _check_batches(config)


def rule(name: str) -> Rule | None:
    """The rule of a field of numbers; None where none is known.

    >>> rule("small_batch_size")[0]
    'at least 1'
    """
    found = (RULES[end] for end in RULES if name == end or name.endswith(f"_{end}"))
    return next(found, None)


def _check_range(name, value, number):
    if not math.isfinite(number):
        raise ValueError(f"{name} must be finite, got {value}")
    found = rule(name)
    if found is not None and not found[1](number):
        raise ValueError(f"{name} must be {found[0]}, got {value}")


def _numbers(value):
    """The numbers in a field, through tuples."""
    if isinstance(value, tuple):
        return [number for part in value for number in _numbers(part)]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return [value] if is_number else []


def _check_type(name, value, hint):
    if typing.get_origin(hint) is Literal and isinstance(value, str):
        nearest.choose(value, typing.get_args(hint), name)
    elif not _fits(value, hint):
        words = getattr(hint, "__name__", None) if isinstance(hint, type) else hint
        raise ValueError(f"{name} must be of type {words}, got {value!r}")


def _fits(value, hint) -> bool:
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, part) for part in inside)
    if origin is Literal:
        return value in inside
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        if inside[1:] == (...,):
            return all(_fits(part, inside[0]) for part in value)
        return len(value) == len(inside) and all(map(_fits, value, inside))
    if hint in (int, float):
        kinds = (int,) if hint is int else (int, float)
        return isinstance(value, kinds) and not isinstance(value, bool)
    return not isinstance(hint, type) or isinstance(value, hint)


def _check_batches(config):
    """Batches against the examples that there are, and the devices that share them."""
    names = [field.name for field in dataclasses.fields(config)]
    fields = {name: getattr(config, name) for name in names}
    sizes = {name: size for name, size in fields.items() if name.endswith("batch_size")}
    examples = fields.get("train_examples")
    for name, size in sizes.items():
        if name != "eval_batch_size" and examples is not None and size > examples:
            raise ValueError(
                f"{name} must be at most train_examples, {examples}: a smaller last "
                f"batch is dropped, so none would be left; got {size}"
            )
        parts = fields.get("devices", 1) if fields.get("batch_norm") == "device" else 1
        if name != "eval_batch_size" and size % parts:
            raise ValueError(
                f"{name} must be a multiple of devices, {parts}, with batch_norm="
                f"'device', which has parts of one size; got {size}"
            )
