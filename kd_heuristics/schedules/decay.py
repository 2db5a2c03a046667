"""Schedules that only fall: by steps, on a line, along a half cosine."""

from collections.abc import Sequence
from itertools import pairwise

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from kd_heuristics.runtime import values
from kd_heuristics.schedules import counts

_RATE = "give a rate"


def step_decay(
    init_value: ArrayLike,
    boundaries: Sequence[ArrayLike] | jax.Array,
    factor: ArrayLike,
) -> optax.Schedule:
    """Multiplied by a factor at each boundary.

    value = init_value * factor**k, k the number of boundaries at or below the count.

    Args:
      init_value: up to the first boundary.
      boundaries: counts, ascending, none of them negative; none at all is a constant.
      factor: in (0, 1].

    Raises: ValueError where known boundaries are out of order or negative, or a known
      factor is out of range.

    >>> rate = step_decay(0.05, [60, 150], 0.2)
    >>> [round(float(rate(step)), 4) for step in (0, 59, 60, 149, 150)]
    [0.05, 0.05, 0.01, 0.01, 0.002]
    """
    boundaries = tuple(boundaries)
    values.finite("init_value", init_value, _RATE)
    _check_factor(factor)
    _check_boundaries(boundaries)

    @counts.elementwise
    def schedule(count):
        drops = jnp.int32(0)
        for boundary in boundaries:
            drops = drops + counts.reached(count, boundary).astype(jnp.int32)
        return counts.float32(init_value) * jax.lax.pow(counts.float32(factor), drops)

    return schedule


def linear_decay(
    init_value: ArrayLike, steps: ArrayLike, end_value: ArrayLike = 0.0
) -> optax.Schedule:
    """On a line from one value to another, then constant.

    value = init_value + (end_value - init_value) * min(count / steps, 1).

    Args:
      init_value: at count 0.
      steps: counts to the end value, above 0.
      end_value: from count `steps` on.

    Raises: ValueError where known steps are not above 0.

    >>> rate = linear_decay(0.1, steps=4)
    >>> [round(float(rate(step)), 4) for step in range(6)]
    [0.1, 0.075, 0.05, 0.025, 0.0, 0.0]
    """
    return _decay(init_value, steps, end_value, lambda remaining: remaining)


# Says its arguments again, so that the docstring can be read by itself.
def cosine_decay(
    init_value: ArrayLike, steps: ArrayLike, end_value: ArrayLike = 0.0
) -> optax.Schedule:
    """Along a half cosine from one value to another, then constant.

    value = end_value + (init_value - end_value) * (1 + cos(pi * min(count / steps, 1)))
    / 2: one cycle of `sgdr` (Loshchilov & Hutter 2017, eq. 5) without a restart.

    Args:
      init_value: at count 0.
      steps: counts to the end value, above 0.
      end_value: from count `steps` on.

    Raises: ValueError where known steps are not above 0.

    >>> rate = cosine_decay(0.1, steps=4)
    >>> [round(float(rate(step)), 4) for step in range(6)]
    [0.1, 0.0854, 0.05, 0.0146, 0.0, 0.0]
    """
    return _decay(init_value, steps, end_value, counts.half_cosine)


def _decay(init_value, steps, end_value, weight):
    """From init_value, of weight(1) = 1, to end_value, in `steps` counts."""
    values.require("steps", steps, 0, "for a constant, use a constant schedule", True)
    values.finite("init_value", init_value, _RATE)
    values.finite("end_value", end_value, _RATE)

    @counts.elementwise
    def schedule(count):
        # Subtracted in the count's own type: exact for integers.
        remaining = jnp.clip(counts.fit(steps) - count, 0, counts.fit(steps))
        fraction = counts.ratio(remaining, counts.fit(steps))
        return counts.mix(end_value, init_value, weight(fraction))

    return schedule


def _check_factor(factor):
    number = values.finite("factor", factor, "to divide by 5, give 0.2")
    if number is not None and not 0 < number <= 1:
        raise ValueError(
            f"factor must be in (0, 1], got {number}; to divide by 5, give 0.2"
        )


def _check_boundaries(boundaries):
    remedy = "give the counts at which to drop"
    numbers = [values.finite("a boundary", one, remedy) for one in boundaries]
    numbers = [number for number in numbers if number is not None]
    if any(number < 0 for number in numbers):
        raise ValueError(f"boundaries must not be negative, got {list(boundaries)}")
    if any(b <= a for a, b in pairwise(numbers)):
        raise ValueError(
            f"boundaries must ascend, got {list(boundaries)}; sort them, each once"
        )
