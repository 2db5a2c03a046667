"""Learning rates of the arms, from the numbers of a resolved config."""

from typing import Any

import jax.numpy as jnp
import optax

from kd_heuristics import schedules


def of_arm(config: Any, arm: str, steps_per_epoch: int) -> optax.Schedule:
    """Returns the learning rate of an arm as a function of the step."""
    steps = config.warmup_epochs * steps_per_epoch
    return schedules.warmup(_decay(config, arm, steps_per_epoch), steps)


def _decay(config: Any, arm: str, steps_per_epoch: int) -> optax.Schedule:
    """Returns the learning rate of an arm without warmup."""
    peak, end = config.peak_rate, config.end_rate
    if arm == "cosine" and config.restarts == "step":
        return schedules.cosine_decay(peak, config.epochs * steps_per_epoch, end)
    if arm == "cosine":
        whole = schedules.cosine_decay(peak, config.epochs - 1, end)
        return schedules.per_epoch(whole, steps_per_epoch)
    length = (config.last_minimum + 1) * steps_per_epoch
    if arm == "fge":
        return _short_cycles(config, length, steps_per_epoch)
    if arm == "linear":
        return schedules.linear_decay(peak, length, end)
    if arm == "wsd":
        cooldown = config.cooldown_epochs * steps_per_epoch
        return schedules.wsd(peak, length, cooldown_steps=cooldown, end_value=end)
    if arm == "step":
        drops = [epoch * steps_per_epoch for epoch in config.drops_epochs]
        return schedules.step_decay(peak, drops, config.drop_factor)
    if config.restarts == "step":
        period = config.period_epochs * steps_per_epoch
        return schedules.sgdr(peak, period, config.mult, end)
    cycles = peak, config.period_epochs, config.mult, end
    by_epoch = schedules.sgdr(*cycles, inclusive=True)
    return schedules.per_epoch(by_epoch, steps_per_epoch)


def _short_cycles(config: Any, length: int, steps_per_epoch: int) -> optax.Schedule:
    """Returns the rate of FGE (Garipov et al. 2018, section 4) up to its last minimum.

    A minimum is the network after the update at the lowest rate, the end of an epoch
    here. Before the cycles the rate falls as in the paper's code: constant for five
    eighths of the steps, then on a line, to the cycles' highest rate.
    """
    high, low = (share * config.peak_rate for share in config.fge_rates)
    period = config.fge_epochs * steps_per_epoch
    start = length - (config.fge_minima - 0.5) * period
    fall = schedules.wsd(
        *(config.peak_rate, start),
        cooldown_steps=3 / 8 * start,
        end_value=high,
        shape="linear",
    )
    cycles = schedules.cyclic(high, period, low)

    def schedule(count):
        # The paper numbers updates from 1.
        return jnp.where(count < start, fall(count), cycles(count + 1 - start))

    return schedule
