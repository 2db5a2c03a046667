"""What the parts of a figure may be: arrays of numbers, words of a few choices."""

import typing
from typing import Annotated, Any, Literal

import numpy as np

from kd_heuristics.runtime import nearest

Real = int | float
# Whatever NumPy makes an array of; a figure holds the array.
Values = Annotated[Any, "float64"]


class FigureError(ValueError):
    """A figure that cannot be drawn; the message says which part, and why."""


def floats(owner: Any, name: str, what: str) -> np.ndarray:
    """Replaces a field by its float64 array."""
    found = array(getattr(owner, name), f"{what} needs numbers as its {name}")
    object.__setattr__(owner, name, found)
    return found


def array(values: Any, what: str) -> np.ndarray:
    try:
        return np.asarray(values, np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise FigureError(f"{what}: {error}") from None


def choices(owner: Any) -> None:
    """Refuses a word that a `Literal` field does not have."""
    for name, hint in typing.get_type_hints(type(owner)).items():
        if typing.get_origin(hint) is Literal:
            try:
                nearest.choose(getattr(owner, name), typing.get_args(hint), name)
            except ValueError as error:
                raise FigureError(str(error)) from None
