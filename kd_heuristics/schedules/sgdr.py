"""Cosine annealing with warm restarts, exact at every restart."""

import functools
from collections.abc import Iterator
from itertools import islice, takewhile
from typing import Any, SupportsFloat

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from kd_heuristics.runtime import values
from kd_heuristics.schedules import counts

_MAX_CYCLES = 200_000  # mult = 1.0001 from period 1 on has 122,000 below 2^31
_LONGEST = 2**31 - 128  # the largest float32 that is an int32


def sgdr(
    peak_value: ArrayLike,
    period: ArrayLike,
    mult: ArrayLike = 2,
    end_value: ArrayLike = 0.0,
    *,
    warmup_steps: ArrayLike = 0,
    warmup_every_cycle: bool = False,
    peak_decay: ArrayLike = 1.0,
    inclusive: bool = False,
) -> optax.Schedule:
    """Stochastic gradient descent with warm restarts (Loshchilov & Hutter 2017, eq. 5).

    value = end_value + (P_i - end_value) * (1 + cos(pi * T_cur / T_i)) / 2,
    P_i = peak_value * peak_decay**i, in cycle i, T_cur counts after its start. Cycle i
    lasts T_i = round(period * mult**i) counts (halves to the even number), without end.
    With W = `warmup_steps` the value rises on a line from end_value at T_cur = 0 to P_i
    at W, and the cosine covers the remaining T_i - W.

    The cycle is found by comparing integers: the value at a restart is P_i itself, for
    every int32 count, and for float counts up to 2^24, where float32 ends to count.

    Args:
      peak_value: at the start of the first cycle.
      period: length of the first cycle in counts, at least 1.
      mult: ratio of successive lengths, at least 1.
      end_value: approached at the end of each cycle; reached if `inclusive`.
      warmup_steps: counts of linear warmup inside the cycle, in [0, period).
      warmup_every_cycle: whether all cycles warm up, or the first only.
      peak_decay: ratio of successive peaks, above 0.
      inclusive: each cycle also holds its end value for one count and so lasts
        T_i + 1: T_cur runs over 0..T_i, as Gotmare et al. 2019 ran it.

    Returns: the schedule. The program's size does not depend on the number of cycles.
      Where period or mult is traced, the cycle lengths are added up one by one, exactly
      for whole numbers; for a traced fraction they are float32 products, so that one
      above about 2^20 can be off by one. Traced values below 1 count as 1.

    Raises: ValueError where a known value is out of range.

    >>> rate = sgdr(0.1, period=10, mult=2)
    >>> [round(float(rate(step)), 4) for step in (0, 5, 9, 10, 20, 30)]
    [0.1, 0.05, 0.0024, 0.1, 0.05, 0.1]
    >>> as_run = sgdr(0.05, 10, 2, 1e-6, inclusive=True)
    >>> [f"{float(as_run(epoch)):.0e}" for epoch in (10, 11, 31, 32)]
    ['1e-06', '5e-02', '1e-06', '5e-02']
    """
    values.finite("peak_value", peak_value, "give a rate")
    values.finite("end_value", end_value, "give a rate")
    _check(period, mult, warmup_steps, peak_decay)
    locate = _locator(period, mult, int(inclusive))
    warms_up = values.known(warmup_steps) != 0
    decays = values.known(peak_decay) != 1

    def weight(cycle, elapsed, length):
        """The peak's share of the value; the end value has the rest."""
        remaining = jnp.maximum(length - elapsed, 0) if inclusive else length - elapsed
        if not warms_up:
            return counts.half_cosine(remaining / length)
        steps = counts.float32(warmup_steps)
        if not warmup_every_cycle:
            steps = jax.lax.select(cycle == 0, steps, jnp.float32(0))
        # Without warmup the quotient is not selected, but must stay finite.
        rising = elapsed / jnp.maximum(steps, 1e-6)
        falling = counts.half_cosine(remaining / (length - steps))
        return jax.lax.select(elapsed < steps, rising, falling)

    @counts.elementwise
    def schedule(count):
        whole, part = counts.split(count)
        cycle, start, length = locate(whole)
        elapsed = counts.float32(whole - start)
        if part is not None:
            elapsed = elapsed + part
        peak = counts.float32(peak_value)
        if decays:
            peak = peak * jax.lax.pow(counts.float32(peak_decay), cycle)
        return counts.mix(end_value, peak, weight(cycle, elapsed, length))

    return schedule


def sgdr_restarts(
    period: SupportsFloat,
    mult: SupportsFloat,
    until: SupportsFloat,
    *,
    inclusive: bool = False,
) -> list[int]:
    """The counts in (0, until) at which `sgdr` starts a new cycle, ascending.

    restart_k = sum over i < k of round(period * mult**i), plus k where `inclusive`. The
    iterate that a cycle ends with is the one after the update with count restart_k - 1.

    Args:
      period: length of the first cycle, at least 1; must be known, not traced.
      mult: ratio of successive lengths, at least 1.
      until: the number of counts to consider, exclusive.
      inclusive: as in `sgdr`.

    Raises: ValueError where an argument is out of range.

    >>> sgdr_restarts(10, 2, until=200), sgdr_restarts(10, 2, 200, inclusive=True)
    ([10, 30, 70, 150], [11, 32, 73, 154])
    """
    _check(period, mult)
    last = values.finite("until", until, "give a number of counts")
    # As Python's numbers: those of NumPy's narrow integers wrap.
    own = values.known(period), values.known(mult)
    starts = (start for start, _ in _cycles(*own, int(inclusive)))
    return list(takewhile(lambda start: start < last, starts))[1:]


def _check(period, mult, warmup_steps=0, peak_decay=1.0):
    values.require("period", period, 1, "for a constant rate use a constant schedule")
    values.require("mult", mult, 1, "for cycles of equal length use mult=1")
    values.require("warmup_steps", warmup_steps, 0, "for no warmup use 0")
    values.require("peak_decay", peak_decay, 0, "for equal peaks use 1.0", strict=True)
    length, steps = values.known(period), values.known(warmup_steps)
    if length is not None and steps is not None and steps >= round(length):
        raise ValueError(
            f"warmup_steps must be below the first cycle's length, {round(length)}, "
            f"got {steps}; lengthen period or shorten the warmup"
        )


def _cycles(period: Any, mult: Any, extra: int) -> Iterator[tuple[int, int]]:
    """Start and length T_i of each cycle, as Python integers, without end."""
    start = index = 0
    while True:
        length = round(period * mult**index)
        yield start, length
        start, index = start + length + extra, index + 1


def _locator(period: Any, mult: Any, extra: int):
    """A function of an int32 count: cycle, its start, its length T_i as a float32."""
    first, ratio = values.known(period), values.known(mult)
    if ratio == 1 and (first is None or first < values.LARGEST):
        return lambda whole: _equal_cycles(whole, period, extra)
    if first is None or ratio is None:
        return lambda whole: _added_cycles(whole, period, mult, extra)
    rows = takewhile(lambda row: row[0] < 2**31, _cycles(first, ratio, extra))
    rows = list(islice(rows, _MAX_CYCLES))
    if len(rows) == _MAX_CYCLES:
        raise ValueError(
            f"mult={ratio} makes over {_MAX_CYCLES} cycles below count 2^31; "
            "for cycles of equal length use mult=1"
        )
    starts = np.array([start for start, _ in rows], np.int32)
    lengths = np.array([length for _, length in rows], np.float32)
    return lambda whole: _tabled_cycles(whole, starts, lengths)


def _equal_cycles(whole, period, extra):
    length = counts.to_int32(counts.rounded(jnp.maximum(counts.fit(period), 1)))
    cycle = jax.lax.div(whole, length + extra)
    return cycle, cycle * (length + extra), counts.float32(length)


def _tabled_cycles(whole, starts, lengths):
    cycle = jnp.searchsorted(starts, whole, side="right") - 1

    def row(table):
        return jnp.asarray(table).at[cycle].get(mode="promise_in_bounds")

    return cycle, row(starts), row(lengths)


def _added_cycles(whole, period, mult, extra):
    """Adds up cycle lengths until one holds the count.

    Lengths saturate at `_LONGEST`: such a cycle is the last one below 2^31, and its
    length as a float32 is enough.
    """
    period, mult = jnp.maximum(period, 1), jnp.maximum(mult, 1)
    nearest = counts.rounded(period), counts.rounded(mult)
    integral = _equal(nearest, (period, mult))
    first, ratio = map(counts.to_int32, nearest)
    largest = jax.lax.div(jnp.int32(_LONGEST), ratio)
    period, mult = counts.float32(period), counts.float32(mult)

    def product(cycle):
        return period * jax.lax.pow(mult, cycle)

    def following(cycle, length):
        multiplied = jax.lax.select(
            length <= largest, length * ratio, jnp.int32(_LONGEST)
        )
        if integral is None:
            return multiplied
        rounded = counts.to_int32(counts.rounded(product(cycle)))
        return jax.lax.select(integral, multiplied, rounded)

    def span(length):
        return length + extra if extra else length

    def beyond(state):
        _, start, length = state
        return whole - start >= span(length)

    def advance(state):
        cycle, start, length = state
        cycle, start = cycle + 1, start + span(length)
        return cycle, start, following(cycle, length)

    # Cycles of equal length need no loop, which could take 2^31 turns.
    skipped = jax.lax.select(mult == 1, jax.lax.div(whole, span(first)), jnp.int32(0))
    state = skipped, skipped * span(first), first
    cycle, start, length = jax.lax.while_loop(beyond, advance, state)
    exact = counts.float32(length)
    return cycle, start, jax.lax.select(length < _LONGEST, exact, product(cycle))


def _equal(nearest, numbers):
    """Whether all numbers are whole; None where their types already say so."""
    whole = [
        rounded == number
        for rounded, number in zip(nearest, numbers, strict=True)
        if jnp.issubdtype(number.dtype, jnp.floating)
    ]
    return functools.reduce(jax.lax.bitwise_and, whole) if whole else None
