"""Integers of any type as Python's, whose arithmetic does not wrap."""

import operator
from typing import Any

LARGEST = 2**31 - 1  # of int32, the type of a step


def integer(
    name: str,
    value: Any,
    least: int | None = None,
    most: int | None = None,
    remedy: str = "",
) -> int:
    """The Python integer of a Python, NumPy or JAX one.

    Args:
      name: of the argument, for the message.
      value: an integer, or an array of one without axes.
      least: smallest valid value.
      most: largest valid value.
      remedy: what to do instead, appended to the message.

    Raises:
      TypeError: no integer, such as a float.
      ValueError: outside [least, most].

    >>> import numpy as np
    >>> integer("num_steps", np.uint8(5), least=1)
    5
    """
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(
            f"{name} must be an integer, got {value!r}; convert it with int(...)"
        ) from None
    end = f"; {remedy}" if remedy else ""
    if least is not None and number < least:
        raise ValueError(f"{name} must be at least {least}, got {number}{end}")
    if most is not None and number > most:
        raise ValueError(f"{name} must be at most {most}, got {number}{end}")
    return number
