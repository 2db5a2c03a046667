"""Schedules made of another schedule: set once an epoch, or warmed up."""

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from kd_heuristics.runtime import values
from kd_heuristics.schedules import counts


def per_epoch(
    schedule_of_epochs: optax.Schedule, steps_per_epoch: ArrayLike
) -> optax.Schedule:
    """A schedule of steps that is set once an epoch.

    value(step) = schedule_of_epochs(floor(step / steps_per_epoch)), epochs from 0.

    Args:
      schedule_of_epochs: any schedule whose count is an epoch, given as an int32.
      steps_per_epoch: a whole number, at least 1.

    Raises: ValueError where known steps_per_epoch are below 1 or no whole number.

    >>> rate = per_epoch(lambda epoch: 1.0 / (1 + epoch), steps_per_epoch=3)
    >>> [float(rate(step)) for step in (0, 2, 3, 5, 9)]
    [1.0, 1.0, 0.5, 0.5, 0.25]
    """
    values.require_schedule("schedule_of_epochs", schedule_of_epochs)
    remedy = "give the number of updates an epoch"
    number = values.require_whole("steps_per_epoch", steps_per_epoch, 1, remedy)
    if number is not None and number > values.LARGEST:
        raise ValueError(f"steps_per_epoch must be below 2^31, got {number}; {remedy}")

    @counts.elementwise
    def schedule(count):
        whole, _ = counts.split(count)
        steps = jnp.asarray(steps_per_epoch if number is None else int(number))
        epoch = jax.lax.div(whole, counts.to_int32(jnp.maximum(steps, 1)))
        return counts.float32(schedule_of_epochs(epoch))

    return schedule


def warmup(
    schedule: optax.Schedule,
    steps: ArrayLike,
    init_value: ArrayLike = 0.0,
    shift: bool = False,
    *,
    inclusive: bool = False,
) -> optax.Schedule:
    """Linear warmup to a schedule (Goyal et al. 2017, section 2.2).

    value = init_value + (target - init_value) * count / steps while count < steps, then
    schedule(count), or schedule(count - steps) if `shift`; target is the value that
    follows, so that the line ends where the schedule goes on.

    With `inclusive` the line is one count ahead, (count + 1) / steps: it does not hold
    init_value, and count steps - 1 has the target, here the value that the schedule has
    at that count (its first, if `shift`). Set once an epoch, that is the warmup of
    Gotmare et al. 2019, section 4: 0.0005 + 2.4995 * (epoch + 1) / 20.

    Args:
      schedule: any schedule. It gets arrays of the count's type; floats where `steps`
        is a fraction or a traced float.
      steps: counts of warmup, at least 0; a known 0 returns the schedule itself.
      init_value: where the line starts.
      shift: whether the schedule starts after the warmup; else it keeps its own time,
        and its boundaries stay where they are.
      inclusive: as above.

    Raises: ValueError where known steps are below 0, or 2^31 and more.

    >>> drops = optax.piecewise_constant_schedule(2.5, {60: 0.1})
    >>> by_epoch = warmup(drops, 20, init_value=0.0005, inclusive=True)
    >>> rate = per_epoch(by_epoch, steps_per_epoch=10)
    >>> [round(float(rate(10 * epoch)), 3) for epoch in (0, 1, 19, 20, 60)]
    [0.125, 0.25, 2.5, 2.5, 0.25]
    """
    values.require_schedule("schedule", schedule)
    number = values.require("steps", steps, 0, "for no warmup use 0")
    values.finite("init_value", init_value, "give a rate")
    if number == 0:
        return schedule
    if number is not None and number > values.LARGEST:
        raise ValueError(
            f"steps must be below 2^31, got {number}; schedules count in int32"
        )
    if number is not None:
        steps = int(number) if number == int(number) else number

    @counts.elementwise
    def warmed(count):
        # The schedule's own time never runs below 0, where it may be undefined.
        own = jnp.maximum(count - steps, 0) if shift else count
        last = jnp.asarray(steps - 1 if inclusive else steps)
        if not jnp.issubdtype(last.dtype, jnp.floating):
            last = last.astype(count.dtype)
        target = schedule(jnp.zeros_like(own) if shift else last)
        ahead = count + 1 if inclusive else count
        line = counts.mix(init_value, target, counts.ratio(ahead, steps))
        return jnp.where(count < steps, line, counts.float32(schedule(own)))

    return warmed
