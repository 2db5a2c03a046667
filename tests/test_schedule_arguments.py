"""Schedules in every mode of JAX and with every kind of number; what they refuse."""

import math
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kd_heuristics import freezing, schedules
from tests.modes import MODES, enable_x64

TABLE = np.float32([0.4, 0.3, 0.2, 0.1, 0.0])


def linear(count):
    return 1.0 - count / 8


# Each from numbers as they are given: whole ones, rates.
MAKERS = {
    "sgdr": lambda n, x: schedules.sgdr(x(0.1), n(4), n(2), x(0.01)),
    "sgdr warmed": lambda n, x: schedules.sgdr(
        x(0.1), n(5), n(1), warmup_steps=n(2), peak_decay=x(0.5), inclusive=True
    ),
    "step_decay": lambda n, x: schedules.step_decay(x(0.1), [n(2), n(5)], x(0.5)),
    "linear_decay": lambda n, x: schedules.linear_decay(x(0.1), n(7), x(0.01)),
    "cosine_decay": lambda n, x: schedules.cosine_decay(x(0.1), n(7), x(0.01)),
    "cyclic": lambda n, x: schedules.cyclic(x(0.1), n(4), x(0.01)),
    "per_epoch": lambda n, x: schedules.per_epoch(linear, n(3)),
    "warmup": lambda n, x: schedules.warmup(linear, n(3), x(0.01)),
    "warmup shifted": lambda n, x: schedules.warmup(linear, n(3), shift=True),
    "wsd": lambda n, x: schedules.wsd(
        x(0.1), n(9), warmup_steps=n(2), cooldown_steps=n(4), end_value=x(0.01)
    ),
    "is_frozen": lambda n, x: lambda count: freezing.is_frozen(count, n(6), n(2)),
}
makers = pytest.mark.parametrize("name", MAKERS)
COUNTS = np.arange(10, dtype=np.int32)


def plain(name):
    return MAKERS[name](int, float)(COUNTS)


@makers
@pytest.mark.parametrize("mode", MODES)
def test_every_mode_gives_the_same(name, mode):
    expected = plain(name)
    with MODES[mode]():
        for make in (int, float), (np.int64, np.float64), (jnp.int32, jnp.float32):
            schedule = MAKERS[name](*make)
            # Compiled or not, a product and a sum may be contracted.
            np.testing.assert_allclose(schedule(COUNTS), expected, rtol=1e-6, atol=1e-8)
            np.testing.assert_allclose(schedule(3), expected[3], rtol=1e-6, atol=1e-8)


@makers
@pytest.mark.parametrize("dtype", [np.int64, np.uint32, np.uint64, np.int16, int])
def test_counts_beyond_int32_are_refused(name, dtype):
    schedule = MAKERS[name](int, float)
    expected = plain(name)[7]
    np.testing.assert_allclose(schedule(dtype(7)), expected, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(
        schedule(np.array([dtype(7)])), [expected], rtol=1e-6, atol=1e-8
    )
    if dtype == np.int16:
        return
    for count in dtype(2**31), dtype(2**31 + 10), np.array([1, 2**32 - 1], dtype):
        with pytest.raises(ValueError, match=r"must be below 2\^31, got 2147483|got 4"):
            schedule(count)
    if dtype == np.int64:
        with enable_x64(True), pytest.raises(ValueError, match=r"below 2\^31"):
            schedule(jnp.int64(2**40))


HUGE = [2**31 - 1, 2**31, 2**31 + 10, 2**40]


@pytest.mark.parametrize("kind", [int, np.int64])
@pytest.mark.parametrize("steps", HUGE)
def test_arguments_beyond_int32(kind, steps):
    big, last = kind(steps), 2**31 - 1
    share = last / steps
    rise = np.float32(0.1) * (1 - share)
    assert schedules.linear_decay(0.1, big)(last) == pytest.approx(rise, abs=1e-9)
    half = 0.1 * (1 + math.cos(math.pi * share)) / 2
    assert schedules.cosine_decay(0.1, big)(last) == pytest.approx(half, abs=1e-8)
    for mult in 1, 2:
        found = schedules.sgdr(0.1, big, mult)(last)
        assert found == pytest.approx(half if steps > last else 0.1, abs=1e-8)
    stepped = schedules.step_decay(1.0, [big], 0.5)
    assert [stepped(last - 1), stepped(last)] == [1.0, 0.5 if steps == last else 1.0]
    assert bool(freezing.is_frozen(last, until=big)) == (steps > last)
    assert bool(freezing.is_frozen(last, last + 1, start=big)) == (steps == last)
    for make in schedules.warmup, schedules.per_epoch:
        if steps > last:
            with pytest.raises(
                ValueError, match=r"must be below 2\^31, got 2147|got 10"
            ):
                make(linear, big)
        else:
            make(linear, big)(last)


def test_an_epoch_and_a_warmup_as_long_as_counts_go():
    rate = schedules.per_epoch(lambda epoch: 1.0 / (1 + epoch), 2**31 - 1)
    assert [rate(2**31 - 2), rate(2**31 - 1)] == [1.0, 0.5]
    ramp = schedules.warmup(lambda count: 0.5, 2**31 - 1)
    assert [ramp(0), ramp(2**31 - 1)] == [0.0, 0.5]


def indexed(count):
    return jnp.asarray(TABLE)[jnp.minimum(count, 4)]


def cast(count):
    return 1.0 - count.astype(jnp.float32) / 8


def types(count):
    """The type of its count: 1 for an int32."""
    return jnp.float32(count.dtype == jnp.int32)


@pytest.mark.parametrize("inner", [indexed, cast, types])
@pytest.mark.parametrize("shift", [False, True])
@pytest.mark.parametrize("inclusive", [False, True])
@pytest.mark.parametrize("steps", [3, 3.0, np.int64(3), np.float32(3), jnp.int32(3)])
def test_the_inner_schedule_gets_an_array_of_the_counts_type(
    inner, shift, inclusive, steps
):
    schedule = schedules.warmup(inner, steps, 0.05, shift, inclusive=inclusive)
    at = [float(inner(np.int32(count))) for count in range(6)]
    target = at[0] if shift else at[2 if inclusive else 3]
    ramp = [0.05 + (target - 0.05) * (k + inclusive) / 3 for k in range(3)]
    expected = ramp + (at[:3] if shift else at[3:6])
    np.testing.assert_allclose(schedule(np.arange(6)), expected, rtol=1e-6)
    np.testing.assert_allclose([schedule(k) for k in range(6)], expected, rtol=1e-6)


@pytest.mark.parametrize("inner", [indexed, cast, types])
def test_other_schedules_of_schedules_give_arrays_too(inner):
    by_epoch = schedules.per_epoch(schedules.warmup(inner, 2), 2)
    values = [float(inner(np.int32(count))) for count in range(4)]
    expected = [0, 0, values[2] / 2, values[2] / 2, values[2], values[2]]
    np.testing.assert_allclose(by_epoch(np.arange(6)), expected, rtol=1e-6)
    np.testing.assert_allclose(by_epoch(4), expected[4], rtol=1e-6)

    def until(count):
        return inner(count) > 0.25

    frozen = [bool(freezing.is_frozen(count, until)) for count in (0, 1)]
    assert frozen == [value > 0.25 for value in values[:2]]


def test_no_warmup_is_the_schedule_itself():
    for zero in (0, 0.0, np.int64(0), jnp.int32(0)):
        for options in ({}, {"shift": True}, {"inclusive": True}):
            assert schedules.warmup(linear, zero, **options) is linear
    traced = jax.jit(lambda steps: schedules.warmup(linear, steps)(COUNTS))
    with jax.debug_nans(True):
        np.testing.assert_allclose(traced(0), linear(COUNTS))


WRONG = """
    import jax, numpy as np
    from kd_heuristics import freezing, schedules, training
    from kd_heuristics.schedules import *

    def one(count):
        return 1.0

    RATES = {
        "peak_value": [lambda x: sgdr(x, 4), lambda x: cyclic(x, 4)],
        "end_value": [lambda x: sgdr(1, 4, 2, x), lambda x: linear_decay(1, 4, x)],
        "init_value": [
            lambda x: step_decay(x, [1], 0.5), lambda x: linear_decay(x, 4),
            lambda x: cosine_decay(x, 4), lambda x: warmup(one, 4, x)],
        "low_value": [lambda x: cyclic(1, 4, x)],
        "period": [lambda x: sgdr(1, x), lambda x: cyclic(1, x)],
        "mult": [lambda x: sgdr(1, 4, x)],
        "warmup_steps": [lambda x: sgdr(1, 4, warmup_steps=x)],
        "peak_decay": [lambda x: sgdr(1, 4, peak_decay=x)],
        "steps": [
            lambda x: warmup(one, x), lambda x: linear_decay(1, x),
            lambda x: cosine_decay(1, x), lambda x: training.warmup_cosine(x, 1)],
        "warmup_steps ": [lambda x: training.warmup_cosine(4, x)],
        "steps_per_epoch": [lambda x: per_epoch(one, x)],
        "factor": [lambda x: step_decay(1, [1], x)],
        "a boundary": [lambda x: step_decay(1, [x], 0.5)],
        "until": [lambda x: sgdr_restarts(2, 2, x)],
        "base_batch": [lambda x: linear_scaling(1, x, 2)],
        "until ": [lambda x: freezing.is_frozen(0, x)],
        "start": [lambda x: freezing.is_frozen(0, 5, x)],
    }
    VALUES = [float("nan"), float("inf"), "0.1", [2], None, np.array([1, 2]), 1j]
    for name, makes in RATES.items():
        for make in makes:
            for value in VALUES:
                try:
                    made = make(value)
                except ValueError as error:
                    words = str(error)
                    assert words.startswith(name.strip() + " must "), (name, words)
                    shown = "shape" if np.ndim(value) else str(value)
                    assert shown in words, (name, words)
                else:
                    raise AssertionError((name, value, made))
    for make in lambda: warmup(0.1, 5), lambda: per_epoch(0.1, 5):
        try:
            make()
        except ValueError as error:
            assert "must be a schedule, count -> value, got 0.1" in str(error)
        else:
            raise AssertionError("a number for a schedule")
"""


def test_numbers_that_are_none_are_refused():
    # In a process of its own: here beartype refuses what is no number before we do.
    subprocess.run([sys.executable, "-c", textwrap.dedent(WRONG)], check=True)


def test_traced_numbers_pass():
    bad = jax.jit(lambda x: schedules.sgdr(x, 4)(0))(jnp.nan)
    assert math.isnan(bad)
    assert optax.adam(schedules.sgdr(0.1, 4)) is not None
