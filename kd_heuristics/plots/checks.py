"""Checks of the parts of a figure: arrays of numbers, words from a few choices."""

import typing
from typing import Annotated, Any, Literal

import numpy as np

from kd_heuristics.runtime import nearest

Real = int | float
# Anything that NumPy converts to an array; the figure holds the array.
Values = Annotated[Any, "float64"]


class FigureError(ValueError):
    """Error that a figure cannot be drawn; the message names the part and reason."""


def floats(owner: Any, name: str, what: str) -> np.ndarray:
    """Replaces a field by its float64 array, and returns the array."""
    found = array(getattr(owner, name), f"{what} needs numbers as its {name}")
    object.__setattr__(owner, name, found)
    return found


def array(values: Any, what: str) -> np.ndarray:
    """Converts values to a float64 array; FigureError if it cannot."""
    try:
        return np.asarray(values, np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise FigureError(f"{what}: {error}") from None


def choices(owner: Any) -> None:
    """Raises FigureError if a `Literal` field has another value."""
    for name, hint in typing.get_type_hints(type(owner)).items():
        if typing.get_origin(hint) is Literal:
            try:
                nearest.choose(getattr(owner, name), typing.get_args(hint), name)
            except ValueError as error:
                raise FigureError(str(error)) from None
