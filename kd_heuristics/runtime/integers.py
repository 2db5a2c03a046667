"""Integers of any type as Python's, whose arithmetic does not wrap."""

import operator
from typing import Any

import jax

LARGEST = 2**31 - 1  # of int32, the type of a step
LARGEST_SEED = 2**32 - 1  # of `jax.random.key`, which drops higher bits


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


def seed(value: Any) -> Any:
    """A seed that `jax.random.key` takes as it is; a traced one passes.

    Raises:
      TypeError: no integer.
      ValueError: more than 32 bits: seeds that agree in their low bits would be one.
    """
    if isinstance(value, jax.core.Tracer):
        return value
    return integer("seed", value, -(2**31), LARGEST_SEED)
