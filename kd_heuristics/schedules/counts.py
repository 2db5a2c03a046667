"""Arithmetic that the schedules share: exact counts and the two ramps."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kd_heuristics.runtime.values import LARGEST, known


def elementwise(schedule: Callable[[jax.Array], jax.Array]) -> Callable:
    """Extends a function of one count to numbers and arrays of any shape and type.

    The function is given an int32 or a float of at least 32 bits, never below 0.

    Raises: ValueError where a known integer is 2^31 or more. A traced one counts as
      2^31 - 1; jit itself wraps larger integers where 64-bit types are off.
    """

    @functools.wraps(schedule)
    def of_any_shape(count):
        check_count(count)
        count = jnp.asarray(count)
        if not jnp.issubdtype(count.dtype, jnp.floating):
            count = to_int32(count)
        elif count.dtype.itemsize < 4:
            count = count.astype(jnp.float32)
        function = schedule
        for _ in range(count.ndim):
            function = jax.vmap(function)
        return function(jnp.maximum(count, 0))

    return of_any_shape


def check_count(count: Any) -> None:
    """Raises ValueError where a known integer count is 2^31 or more."""
    if getattr(count, "dtype", None) in (jnp.int32, jnp.float32):
        return  # without waiting for an array on a device
    try:
        counts = np.asarray(count)
    except jax.errors.JAXTypeError:
        return
    if counts.dtype.kind in "iuO" and counts.size and counts.max() > LARGEST:
        raise ValueError(
            f"a count must be below 2^31, got {counts.max()}; schedules count in int32"
        )


def reached(count: jax.Array, boundary: Any) -> jax.Array:
    """Whether a count is at or past a boundary.

    A known fraction is rounded up for integer counts, so that integers are compared: as
    float32 those above 2^24 are not all different.
    """
    number = known(boundary)
    if number is None or jnp.issubdtype(count.dtype, jnp.floating):
        return count >= fit(boundary)
    if number > LARGEST:
        return jnp.zeros(count.shape, bool)
    return count >= math.ceil(number)


def split(count: jax.Array) -> tuple[jax.Array, jax.Array | None]:
    """A count as an int32 and a float32 fraction in [0, 1), None for an integer."""
    if not jnp.issubdtype(count.dtype, jnp.floating):
        return count, None
    floor = jnp.floor(count)
    return to_int32(floor), float32(count - floor)


def rounded(value: Any) -> jax.Array:
    """To the nearest whole number, halves to the even one; the type stays."""
    value = jnp.asarray(value)
    if not jnp.issubdtype(value.dtype, jnp.floating):
        return value
    return jax.lax.round(value, jax.lax.RoundingMethod.TO_NEAREST_EVEN)


def to_int32(value: jax.Array) -> jax.Array:
    """A whole number of any type as an int32, at most about 2^31."""
    if jnp.issubdtype(value.dtype, jnp.floating):
        value = jnp.minimum(value, 2.0**31 - 128)  # the largest float32 in range
    elif value.dtype.itemsize >= 4 and value.dtype != jnp.int32:
        value = jnp.minimum(value, LARGEST)
    return value.astype(jnp.int32)


def float32(value: Any) -> jax.Array:
    """A strong float32: a schedule's value has one type, whatever its arguments."""
    return jnp.asarray(value, jnp.float32)


def mix(start: Any, end: Any, weight: Any) -> jax.Array:
    """(1 - weight) * start + weight * end, exactly the ends at 0 and 1."""
    return (1.0 - weight) * float32(start) + weight * float32(end)


def ratio(part: Any, whole: Any) -> jax.Array:
    """The float32 quotient of two counts, at most 1 and exactly 1 where equal.

    XLA may divide by a constant by multiplying with its rounded reciprocal.
    """
    divisor = float32(whole)
    if known(whole) is None:
        # 0 / 0 is not selected, but stops a run under jax_debug_nans.
        divisor = jnp.where(divisor == 0, 1, divisor)
    quotient = float32(part) / divisor
    return jnp.where(part >= whole, jnp.float32(1), quotient)


def half_cosine(remaining: jax.Array) -> jax.Array:
    """(1 - cos(pi * remaining)) / 2: 1 at the start of an annealing, 0 at its end.

    Written as a squared sine, whose relative error stays small towards the end, where
    the difference of 1 and a cosine would cancel.
    """
    return jnp.square(jnp.sin(jnp.float32(np.pi / 2) * remaining))


def fit(value: Any) -> Any:
    """A known number as Python's, a float where it lies beyond int32."""
    number = known(value)
    if isinstance(number, int) and abs(number) > LARGEST:
        return float(number)
    return value if number is None else number
