"""Whole numbers that a user gives, of Python or of NumPy, as Python's own."""

import operator
from typing import Any

import jax

LARGEST_SEED = 2**32 - 1  # of `jax.random.key`, which drops higher bits


def integer(name: str, value: Any, lowest: int | None = None, remedy: str = "") -> int:
    """The value as an int.

    Args:
      name: of the argument, for the message.
      value: an integer of any type; 2.0 is none.
      lowest: the smallest valid one; None: any is.
      remedy: what to do instead, at the end of the message.

    Raises: ValueError for what is no integer, or too small.

    >>> import numpy as np
    >>> integer("batch_size", np.int64(4), 1)
    4
    """
    remedy = f"; {remedy}" if remedy else ""
    try:
        number = operator.index(value)
    except TypeError as error:
        raise ValueError(f"{name} must be an integer, got {value!r}{remedy}") from error
    if lowest is not None and number < lowest:
        raise ValueError(f"{name} must be at least {lowest}, got {number}{remedy}")
    return number


def seed(value: Any) -> Any:
    """A seed that `jax.random.key` takes as it is; a traced one passes.

    Raises: ValueError for what is no integer, or has more than 32 bits: seeds that
      agree in their low bits would be one seed.
    """
    if isinstance(value, jax.core.Tracer):
        return value
    number = integer("seed", value)
    if not -(2**31) <= number <= LARGEST_SEED:
        raise ValueError(f"seed must lie in -2^31..2^32 - 1, got {number}")
    return number
