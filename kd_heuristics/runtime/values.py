"""Checks of single arguments: integers, seeds, finite numbers, shares, schedules.

Every message has the argument's name, its value and a remedy. A traced number passes,
because its value is unknown.
"""

import math
import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

LARGEST = 2**31 - 1  # of int32, the type of a step
LARGEST_SEED = 2**32 - 1  # of `jax.random.key`, which drops higher bits


def integer(
    name: str,
    value: Any,
    least: int | None = None,
    most: int | None = None,
    remedy: str = "",
) -> int:
    """Returns a Python, NumPy or JAX integer as a Python integer, which cannot wrap.

    Args:
      name: name of the argument, for the message.
      value: an integer, or an integer array without axes.
      least: smallest valid value.
      most: largest valid value.
      remedy: advice in the message.

    Raises:
      TypeError: the value is not an integer, such as a float.
      ValueError: the value is outside [least, most].

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
    """Returns a seed that `jax.random.key` takes unchanged; a traced one passes.

    Raises:
      TypeError: the value is not an integer.
      ValueError: the value has more than 32 bits; seeds with equal low bits would be
        the same.
    """
    if isinstance(value, jax.core.Tracer):
        return value
    return integer("seed", value, -(2**31), LARGEST_SEED)


def known(value: Any) -> Any:
    """Returns a scalar as a Python number, or `None` while jax traces it.

    Raises: ValueError if the value has axes.

    >>> known(3), known(np.float32(0.5)), jax.eval_shape(known, jnp.float32(1.0))
    (3, 0.5, None)
    """
    if isinstance(value, int | float):
        return value
    if np.ndim(value):
        raise ValueError(
            f"an argument must be a scalar, got shape {np.shape(value)}; for a "
            "population of values use jax.vmap"
        )
    try:
        return np.asarray(value).item()
    except jax.errors.JAXTypeError:
        return None


def finite(name: str, value: Any, remedy: str) -> Any:
    """Returns a finite real number as a Python number, or `None` if it is traced.

    Args:
      name: name of the argument, for the message.
      value: the number.
      remedy: advice in the message.

    Raises: ValueError if the value is not a finite real number.

    >>> finite("rate", np.float32(0.5), "give a number")
    0.5
    """
    dtype = getattr(value, "dtype", None) or np.asarray(value).dtype
    if not (jnp.issubdtype(dtype, jnp.number) or jnp.issubdtype(dtype, jnp.bool_)):
        raise ValueError(f"{name} must be a number, got {value!r}; {remedy}")
    if np.ndim(value):
        raise ValueError(
            f"{name} must be a scalar, got shape {np.shape(value)}; "
            "for a population of values use jax.vmap"
        )
    number = known(value)
    if isinstance(number, complex) or not (number is None or math.isfinite(number)):
        raise ValueError(f"{name} must be finite and real, got {number}; {remedy}")
    return number


def require(name: str, value: Any, lowest: int, remedy: str, strict=False) -> Any:
    """Returns a number as `finite` does, and checks its lower bound.

    Args:
      name: name of the argument, for the message.
      value: a number; a traced one passes.
      lowest: smallest valid value or, if `strict`, largest invalid value.
      remedy: advice in the message.
      strict: whether `lowest` itself is invalid.

    Raises: ValueError if the value is not finite, or too low.
    """
    number = finite(name, value, remedy)
    if number is not None and (number < lowest or (strict and number == lowest)):
        bound = "above" if strict else "at least"
        raise ValueError(f"{name} must be {bound} {lowest}, got {number}; {remedy}")
    return number


def require_whole(name: str, value: Any, lowest: int, remedy: str) -> Any:
    """Returns a number as `require` does, and checks that it has no fraction."""
    number = require(name, value, lowest, remedy)
    if number is not None and number != int(number):
        raise ValueError(f"{name} must be whole, got {number}; {remedy}")
    return number


def require_share(name: str, value: Any, remedy: str) -> None:
    """Raises ValueError if a known value lies outside [0, 1)."""
    number = finite(name, value, remedy)
    if number is not None and not 0 <= number < 1:
        raise ValueError(f"{name} must lie in [0, 1), got {number}; {remedy}")


def require_schedule(name: str, schedule: Any) -> None:
    """Raises ValueError if the value cannot be called."""
    if not callable(schedule):
        raise ValueError(
            f"{name} must be a schedule, count -> value, got {schedule!r}; for a "
            "constant one use optax.constant_schedule"
        )
