"""A triangular wave, for ensembling along a path of low loss."""

import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from kd_heuristics.runtime import values
from kd_heuristics.schedules import counts


def cyclic(
    peak_value: ArrayLike, period: ArrayLike, low_value: ArrayLike = 0.0
) -> optax.Schedule:
    """Down on a line and up again, without end (fast geometric ensembling).

    value = peak_value + (low_value - peak_value) * (1 - |1 - 2 * t|),
    t = (count mod period) / period.

    Garipov et al. 2018 (section 4) number iterations from 1: iteration i has the rate
    schedule(i), so that `lambda step: schedule(step + 1)` is theirs as an optax
    schedule. A model joins the ensemble after each update at the low value: at count
    k * period + period / 2 of this schedule.

    Args:
      peak_value: at the start of each cycle.
      period: counts a cycle, at least 2; even, if a count shall have the low value.
      low_value: half-way through each cycle.

    Raises: ValueError where a known period is below 2.

    >>> rate = cyclic(0.05, period=4, low_value=0.01)
    >>> [round(float(rate(step)), 4) for step in range(6)]
    [0.05, 0.03, 0.01, 0.03, 0.05, 0.03]
    """
    values.require("period", period, 2, "for a constant rate use a constant schedule")
    values.finite("peak_value", peak_value, "give a rate")
    values.finite("low_value", low_value, "give a rate")

    @counts.elementwise
    def schedule(count):
        length = counts.fit(period)
        since = jnp.remainder(count, length)
        # Twice the distance to the nearer peak, as a difference: it cannot overflow.
        nearer = length - jnp.abs(since - (length - since))
        return counts.mix(peak_value, low_value, counts.ratio(nearer, length))

    return schedule
