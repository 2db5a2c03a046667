"""Warmup, a long constant rate, and a cooldown."""

import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from kd_heuristics.runtime import nearest, values
from kd_heuristics.schedules import counts


def wsd(
    peak_value: ArrayLike,
    steps: ArrayLike,
    *,
    warmup_steps: ArrayLike = 0,
    cooldown_steps: ArrayLike,
    end_value: ArrayLike = 0.0,
    shape: str = "sqrt",
) -> optax.Schedule:
    """Warmup-stable-decay (Hu et al. 2024, arXiv 2404.06395).

    value = peak_value * count / warmup_steps while count < warmup_steps, then
    peak_value up to count steps - cooldown_steps, then end_value + (peak_value -
    end_value) * weight(s), s in [0, 1] the share of the cooldown that is done, and
    end_value from count `steps` on. weight(s) is

    sqrt: 1 - sqrt(s) (Hägele et al. 2024, arXiv 2405.18392).
    linear: 1 - s.
    cosine: (1 + cos(pi * s)) / 2.

    Runs that differ in `steps` alone have equal values, bit for bit, up to the start of
    the shorter one's cooldown: it can branch off a checkpoint of the longer one.

    Args:
      peak_value: the constant rate.
      steps: counts to the end value, warmup and cooldown among them.
      warmup_steps: counts of linear warmup from 0, at least 0.
      cooldown_steps: counts of the cooldown, above 0.
      end_value: from count `steps` on.
      shape: "sqrt", "linear" or "cosine".

    Raises: ValueError where a known value is out of range, or warmup and cooldown are
      together longer than `steps`.

    >>> rate = wsd(0.1, steps=10, warmup_steps=2, cooldown_steps=4)
    >>> [round(float(rate(step)), 4) for step in (0, 1, 2, 6, 7, 8, 9, 10)]
    [0.0, 0.05, 0.1, 0.1, 0.05, 0.0293, 0.0134, 0.0]
    """
    values.finite("peak_value", peak_value, "give a rate")
    values.finite("end_value", end_value, "give a rate")
    weight = _WEIGHTS[nearest.choose(shape, _WEIGHTS, "shape")]
    _check(steps, warmup_steps, cooldown_steps)
    warms_up = values.known(warmup_steps) != 0
    last, cooldown = counts.fit(steps), counts.fit(cooldown_steps)

    @counts.elementwise
    def schedule(count):
        # Subtracted in the count's own type: exact for integers.
        remaining = jnp.clip(last - count, 0, cooldown)
        done = counts.ratio(cooldown - remaining, cooldown)
        share = weight(counts.ratio(remaining, cooldown), done)
        value = counts.mix(end_value, peak_value, share)
        if not warms_up:
            return value
        rising = counts.float32(peak_value) * counts.ratio(count, warmup_steps)
        return jnp.where(count < counts.fit(warmup_steps), rising, value)

    return schedule


def _root(share):
    """The square root, whose derivative at 0 is 0 in place of infinity."""
    inside = share > 0
    return jnp.where(inside, jnp.sqrt(jnp.where(inside, share, 1.0)), 0.0)


# Of the shares that remain and are done. Each is exact near one end of the cooldown:
# 1 - sqrt(done) would cancel at the other.
_WEIGHTS = {
    "sqrt": lambda remaining, done: remaining / (1.0 + _root(done)),
    "linear": lambda remaining, done: remaining,
    "cosine": lambda remaining, done: counts.half_cosine(remaining),
}


def _check(steps, warmup_steps, cooldown_steps):
    values.require("steps", steps, 0, "give the length of the run", strict=True)
    values.require("warmup_steps", warmup_steps, 0, "for no warmup use 0")
    values.require(
        "cooldown_steps", cooldown_steps, 0, "without one use a constant", strict=True
    )
    known = [values.known(number) for number in (steps, warmup_steps, cooldown_steps)]
    if None not in known and known[1] + known[2] > known[0]:
        raise ValueError(
            f"warmup_steps + cooldown_steps must be at most steps={known[0]}, got "
            f"{known[1]} + {known[2]}; shorten one of them"
        )
