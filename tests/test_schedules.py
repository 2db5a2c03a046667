"""Schedules against float64 closed forms, optax, PyTorch and the paper's numbers."""

import json
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kd_heuristics import schedules
from kd_heuristics.schedules import sgdr, sgdr_restarts

STEPS = np.arange(100_000)
LAST = 2**31 - 1
# A float32 sine and a few products, each within 1e-7 of 1, on values of at most peak.
CLOSE = 5e-7


def cycles(period, mult, extra=0, until=2**31):
    """Start and length of every cycle, in Python integers."""
    starts, lengths, start = [], [], 0
    while start < until:
        starts.append(start)
        lengths.append(round(period * mult ** len(lengths)))
        start += lengths[-1] + extra
    return np.array(starts, np.int64), np.array(lengths, np.float64)


def sgdr_oracle(
    counts,
    peak,
    period,
    mult=2,
    end=0.0,
    warmup=0,
    every=False,
    decay=1.0,
    inclusive=False,
):
    counts = np.asarray(counts, np.float64)
    starts, lengths = cycles(period, mult, int(inclusive), counts.max() + 1)
    index = np.searchsorted(starts, counts, side="right") - 1
    length, elapsed = lengths[index], counts - starts[index]
    peaks = peak * decay ** index.astype(np.float64)
    ramp = np.where((index == 0) | every, warmup, 0)
    done = np.minimum(np.maximum(elapsed - ramp, 0) / (length - ramp), 1)
    falling = end + (peaks - end) * (1 + np.cos(np.pi * done)) / 2
    rising = end + (peaks - end) * elapsed / np.maximum(ramp, 1)
    return np.where(elapsed < ramp, rising, falling)


SGDR_CASES = [
    {"peak": 0.1, "period": 100, "mult": 2},
    {"peak": 0.1, "period": 10, "mult": 1},
    {"peak": 0.05, "period": 7, "mult": 1.5, "end": 1e-6},
    {"peak": 1.0, "period": 1, "mult": 3},
    {"peak": 0.3, "period": 10.5, "mult": 1.07, "end": 0.1},
    {"peak": 0.05, "period": 10, "mult": 2, "end": 1e-6, "inclusive": True},
    {"peak": 0.1, "period": 50, "mult": 2, "end": 0.01, "warmup": 20},
    {"peak": 0.1, "period": 50, "mult": 1.5, "warmup": 20, "every": True, "decay": 0.7},
    {
        "peak": 0.2,
        "period": 9,
        "mult": 1,
        "end": 0.02,
        "warmup": 8,
        "every": True,
        "inclusive": True,
    },
]


def make_sgdr(peak, period, mult, end=0.0, warmup=0, every=False, decay=1.0, **rest):
    return sgdr(
        peak,
        period,
        mult,
        end,
        warmup_steps=warmup,
        warmup_every_cycle=every,
        peak_decay=decay,
        **rest,
    )


def cosine_oracle(count, init, steps, end):
    done = np.minimum(count / steps, 1)
    return end + (init - end) * (1 + np.cos(np.pi * done)) / 2


def triangle_oracle(count, peak, period, low):
    t = np.mod(count, period) / period
    return peak + (low - peak) * (1 - np.abs(1 - 2 * t))


def warmed_oracle(count, shift):
    target = 0.1 if shift else cosine_oracle(1000, 0.1, 9000, 0.01)
    own = np.maximum(count - 1000, 0) if shift else count
    line = 0.002 + (target - 0.002) * count / 1000
    return np.where(count < 1000, line, cosine_oracle(own, 0.1, 9000, 0.01))


def make_warmup(init=0.002, steps=1000, shift=False):
    return schedules.warmup(schedules.cosine_decay(0.1, 9000, 0.01), steps, init, shift)


def wsd_oracle(count, shape, peak=0.1, steps=70_000, warmup=500, cool=9000, end=0.01):
    s = np.clip((count - (steps - cool)) / cool, 0, 1)
    weights = {
        "sqrt": 1 - np.sqrt(s),
        "linear": 1 - s,
        "cosine": (1 + np.cos(np.pi * s)) / 2,
    }
    value = end + (peak - end) * weights[shape]
    return np.where(count < warmup, peak * count / warmup, value)


def make_wsd(shape, **other):
    own = {"warmup_steps": 500, "cooldown_steps": 9000, "end_value": 0.01}
    return schedules.wsd(0.1, 70_000, shape=shape, **own | other)


WSD_SHAPES = ("sqrt", "linear", "cosine")


# Each schedule with its float64 closed form, of integer and of fractional counts.
TABLE = {
    f"sgdr-{index}": (make_sgdr(**case), lambda count, c=case: sgdr_oracle(count, **c))
    for index, case in enumerate(SGDR_CASES)
} | {
    "step": (
        schedules.step_decay(0.05, [60, 150.5, 70_000], 0.2),
        lambda c: (
            0.05 * 0.2 ** ((c >= 60.0).astype(float) + (c >= 150.5) + (c >= 70_000))
        ),
    ),
    "linear": (
        schedules.linear_decay(0.1, 70_000, 0.02),
        lambda c: 0.1 - 0.08 * np.minimum(c / 70_000, 1),
    ),
    "cosine": (
        schedules.cosine_decay(0.1, 70_000, 0.02),
        lambda c: cosine_oracle(c, 0.1, 70_000, 0.02),
    ),
    "cyclic": (
        schedules.cyclic(0.05, 30, 0.001),
        lambda c: triangle_oracle(c, 0.05, 30, 0.001),
    ),
    "per_epoch": (
        schedules.per_epoch(schedules.linear_decay(0.1, 400), 37),
        lambda c: 0.1 * (1 - np.minimum(np.floor(c / 37) / 400, 1)),
    ),
    **{
        f"wsd-{shape}": (make_wsd(shape), lambda c, s=shape: wsd_oracle(c, s))
        for shape in WSD_SHAPES
    },
    "warmup": (make_warmup(), lambda c: warmed_oracle(c, shift=False)),
    "warmup-shift": (make_warmup(shift=True), lambda c: warmed_oracle(c, shift=True)),
}


@pytest.mark.parametrize("name", TABLE)
def test_every_step_equals_the_closed_form(name):
    schedule, oracle = TABLE[name]
    values = jax.jit(schedule)(STEPS)
    assert values.dtype == jnp.float32
    expected = oracle(STEPS.astype(np.float64))
    np.testing.assert_allclose(values, expected, rtol=0, atol=CLOSE * expected.max())


@pytest.mark.parametrize("name", TABLE)
def test_ways_to_call_agree(name):
    schedule, oracle = TABLE[name]
    jitted = jax.jit(schedule)
    counts = np.array([0, 1, 59, 60, 61, 999, 1000, 25_000, LAST - 1, LAST])
    values = np.asarray(jitted(counts))
    assert np.isfinite(values).all()
    # Compiled programs may contract a product and a sum: the last bit differs.
    close = {"rtol": 0, "atol": CLOSE * np.abs(values).max()}
    scalar = schedule(60)
    assert scalar.shape == ()
    assert scalar.dtype == jnp.float32
    assert not scalar.weak_type
    np.testing.assert_allclose(scalar, values[3], **close)
    floats = np.array([-0.5, 0.0, 0.25, 59.5, 60.0, 149.75, 1000.125, 3333.5])
    expected = oracle(np.maximum(floats, 0))
    np.testing.assert_allclose(jitted(floats.reshape(2, 4)).ravel(), expected, **close)


def test_every_type_of_count_is_taken():
    # The conversion is one for all schedules: a small one shows it.
    schedule = jax.jit(schedules.linear_decay(0.1, 100))
    values = np.asarray(schedule(np.array([0, 1, 50])))
    for dtype in (np.uint8, np.int8, np.uint32, np.float16, jnp.bfloat16):
        found = schedule(np.array([0, 1, 50], dtype))
        np.testing.assert_allclose(found, values, rtol=1e-6)
    np.testing.assert_allclose(jax.vmap(schedule)(np.array([0, 1, 50])), values)
    np.testing.assert_array_equal(schedule(np.uint32([2**32 - 1])), 0)


def test_the_value_is_float32_with_64_bit_types_too():
    jax.config.update("jax_enable_x64", True)
    try:
        known = jax.jit(sgdr(0.1, 100, 2))(np.array([0, 50, 100, 2**40]))
        traced = jax.jit(lambda p, m: sgdr(0.1, p, m)(np.float64(99.5)))(100, 2.0)
    finally:
        jax.config.update("jax_enable_x64", False)
    assert known.dtype == traced.dtype == jnp.float32
    np.testing.assert_allclose(known[:3], [0.1, 0.05, 0.1], rtol=1e-6)
    assert float(traced) == pytest.approx(sgdr_oracle(99.5, 0.1, 100), rel=1e-4)


@pytest.mark.parametrize("case", SGDR_CASES)
def test_sgdr_at_all_restarts_below_2_31(case):
    inclusive = case.get("inclusive", False)
    if case["mult"] == 1:  # Too many: the first, the last, and some between.
        span = case["period"] + inclusive
        number = np.random.default_rng(0).integers(1, LAST // span, 5000)
        restarts = span * np.union1d(number, [1, 2, LAST // span])
        cycle = restarts // span
    else:
        restarts = cycles(case["period"], case["mult"], int(inclusive))[0][1:]
        cycle = np.arange(1, len(restarts) + 1)
        listed = sgdr_restarts(
            case["period"], case["mult"], LAST + 1, inclusive=inclusive
        )
        assert listed == restarts.tolist()
    ramp = case["warmup"] if case.get("every", False) else 0
    near = restarts - 1, restarts, np.minimum(restarts + ramp, LAST)
    schedule = jax.jit(make_sgdr(**case))
    # One call: each length of the array would be compiled anew.
    before, values, after = np.split(np.asarray(schedule(np.concatenate(near))), 3)
    low, peak = np.float32(case.get("end", 0.0)), np.float32(case["peak"])
    if ramp:
        np.testing.assert_array_equal(values, low)
    elif case.get("decay", 1.0) == 1.0:
        np.testing.assert_array_equal(values, peak)
    if inclusive:
        np.testing.assert_array_equal(before, low)
    peaks = case["peak"] * case.get("decay", 1.0) ** cycle.astype(np.float64)
    whole = restarts + ramp <= LAST
    np.testing.assert_allclose(after[whole], peaks[whole], rtol=1e-6)
    if case["mult"] != 1:
        close = {"rtol": 0, "atol": CLOSE * case["peak"]}
        np.testing.assert_allclose(before, sgdr_oracle(near[0], **case), **close)
        np.testing.assert_allclose(after, sgdr_oracle(near[2], **case), **close)
    floats = restarts.astype(np.float32)
    exact = restarts <= 2**24
    np.testing.assert_array_equal(schedule(floats)[exact], values[exact])


@pytest.mark.parametrize("as_type", [np.int32, np.float32])
def test_a_population_has_its_own_rates_and_periods(as_type):
    # Traced arguments take another way than known ones: it must be as exact.
    table = {"peak": [0.1, 0.2, 0.3, 0.4], "period": [100, 10, 7, 1]}
    table |= {
        "mult": [2, 1, 3, 3],
        "end": [0.0, 1e-3, 0.0, 0.1],
        "warmup": [3, 0, 5, 0],
    }
    population = {
        name: jnp.asarray(column, jnp.float32 if name in ("peak", "end") else as_type)
        for name, column in table.items()
    }
    counts = np.unique([c for p in (100, 7, 1) for c in cycles(p, 3)[0] if c < 2**31])
    counts = np.concatenate([counts, cycles(100, 2)[0], cycles(10, 5)[0], [LAST]])
    counts = np.unique(np.concatenate([STEPS[:300], counts, counts - 1])[1:])
    counts = counts[counts >= 0]
    run = jax.jit(jax.vmap(lambda member: make_sgdr(**member)(counts)))
    values = run(population)
    for index in range(4):
        member = {name: column[index] for name, column in table.items()}
        known = jax.jit(make_sgdr(**member))(counts)
        # The long cycles' lengths differ in the last bit of float32.
        np.testing.assert_allclose(values[index], known, rtol=0, atol=2e-7)


@pytest.mark.parametrize(("period", "mult"), [(7, 1.5), (12.3, 2), (5.5, 1)])
def test_traced_fractions_agree_with_known_ones(period, mult):
    counts = np.arange(30_000)
    traced = jax.jit(lambda p, m: sgdr(0.1, p, m)(counts))
    expected = jax.jit(sgdr(0.1, period, mult))(counts)
    np.testing.assert_allclose(traced(period, mult), expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize("dtype", [jnp.int32, jnp.float32])
def test_traced_values_out_of_range_end(dtype):
    values = jax.jit(lambda p, m: sgdr(0.1, p, m)(50))(dtype(0), dtype(0))
    assert float(values) == np.float32(0.1)  # As period = mult = 1.


def test_all_numeric_arguments_may_be_traced():
    def population(x):
        made = [
            schedules.step_decay(x, [10 * x, 20 * x], x / 4),
            schedules.linear_decay(x, 7 * x, x / 3),
            schedules.cosine_decay(x, 7 * x, x / 3),
            schedules.cyclic(x, 3 * x, x / 3),
            schedules.per_epoch(schedules.linear_decay(x, 7 * x), jnp.int32(3 * x)),
            schedules.warmup(schedules.linear_decay(x, 7 * x), x, x / 9),
            sgdr(x, 5 * x, x, x / 5, warmup_steps=x, peak_decay=1 / x),
            *(
                schedules.wsd(
                    x,
                    9 * x,
                    warmup_steps=x,
                    cooldown_steps=4 * x,
                    end_value=x / 5,
                    shape=shape,
                )
                for shape in WSD_SHAPES
            ),
        ]
        return [schedule(np.arange(60)) for schedule in made]

    together = jax.jit(jax.vmap(population))(jnp.array([2.0, 3.0]))
    known = jax.jit(lambda: [population(2), population(3)])()
    for index in range(2):
        for values, alone in zip(together, known[index], strict=True):
            np.testing.assert_allclose(values[index], alone, rtol=2e-6, atol=2e-6)


def num_equations(jaxpr):
    """Equations of a jaxpr, those of the jaxprs inside it too."""
    number = 0
    for equation in jaxpr.eqns:
        number += 1
        inner = jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")
        )
        for value in inner:
            value = getattr(value, "jaxpr", value)
            number += num_equations(value) if hasattr(value, "eqns") else 0
    return number


@pytest.mark.parametrize("case", SGDR_CASES)
@pytest.mark.parametrize("count", [np.int32(0), np.float32(0)])
def test_the_program_is_small_however_many_cycles(case, count):
    assert num_equations(jax.make_jaxpr(make_sgdr(**case))(count).jaxpr) < 60


@pytest.mark.parametrize("dtype", [jnp.int32, jnp.float32])
def test_the_program_is_small_with_traced_arguments(dtype):
    def value(count, peak, period, mult, end, warmup, decay):
        return make_sgdr(peak, period, mult, end, warmup, False, decay)(count)

    x = jnp.float32(0.5)
    arguments = (np.int32(3), x, dtype(9), dtype(2), x, dtype(3), x)
    assert num_equations(jax.make_jaxpr(value)(*arguments).jaxpr) < 60


def test_the_rate_of_the_papers_sgdr_run():
    by_epoch = sgdr(0.05, 10, 2, 1e-6, inclusive=True)
    rates = jax.jit(schedules.per_epoch(by_epoch, 500))(500 * np.arange(200))
    minima = np.flatnonzero(rates == np.float32(1e-6))
    assert minima.tolist() == [10, 31, 72, 153]
    peaks = np.flatnonzero(rates == np.float32(0.05))
    assert peaks.tolist() == [0, *sgdr_restarts(10, 2, 200, inclusive=True)]


def test_the_rate_of_the_papers_warmup():
    base = schedules.step_decay(2.5, [60, 120, 150], 0.1)
    by_epoch = schedules.warmup(base, 20, init_value=0.0005, inclusive=True)
    rates = jax.jit(schedules.per_epoch(by_epoch, 10))(np.arange(3000))
    epochs = np.arange(3000) // 10
    warm = 0.0005 + 2.4995 * (epochs + 1) / 20
    flat = 2.5 * 0.1 ** np.searchsorted([60, 120, 150], epochs, side="right")
    np.testing.assert_allclose(rates, np.where(epochs < 20, warm, flat), rtol=1e-6)
    np.testing.assert_allclose(rates[:20:10], [0.125475, 0.25045], rtol=1e-6)


def test_an_inclusive_warmup_ends_on_the_schedule():
    base = schedules.linear_decay(1.0, 10)
    own_time = schedules.warmup(base, 4, 0.1, inclusive=True)
    ramp = 0.1 + 0.6 * np.arange(1, 5) / 4
    np.testing.assert_allclose(
        jax.jit(own_time)(np.arange(6)), [*ramp, 0.6, 0.5], rtol=1e-6
    )
    shifted = schedules.warmup(base, 4, 0.1, shift=True, inclusive=True)
    ramp = 0.1 + 0.9 * np.arange(1, 5) / 4
    np.testing.assert_allclose(
        jax.jit(shifted)(np.arange(6)), [*ramp, 1.0, 0.9], rtol=1e-6
    )


@pytest.mark.parametrize("shape", WSD_SHAPES)
@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_wsd_is_exact_at_its_boundaries(shape, dtype):
    def at(peak, end, steps, warmup, cooldown, counts):
        own = {"warmup_steps": warmup, "cooldown_steps": cooldown}
        return schedules.wsd(peak, steps, end_value=end, shape=shape, **own)(counts)

    peak, end = np.float32(0.3), np.float32(0.01)
    for steps, warmup, cooldown in (100, 7, 31), (10, 3, 7), (2**24, 3, 2**22 + 1):
        counts = [0, warmup, steps - cooldown, steps, steps + 1]
        counts = np.array(counts, dtype)
        expected = [0, peak, peak, end, end]
        known = at(peak, end, steps, warmup, cooldown, counts)
        traced = jax.jit(at)(peak, end, steps, warmup, cooldown, counts)
        np.testing.assert_array_equal(known, np.float32(expected))
        np.testing.assert_array_equal(traced, np.float32(expected))
    without = schedules.wsd(peak, 10, cooldown_steps=10, shape=shape)
    assert without(0) == peak
    assert without(10) == 0


@pytest.mark.parametrize("shape", WSD_SHAPES)
def test_cooldowns_branch_off_one_trunk(shape):
    trunk = jax.jit(make_wsd(shape))(np.arange(61_001))
    short = schedules.wsd(0.1, 900, warmup_steps=500, cooldown_steps=300, shape=shape)
    np.testing.assert_array_equal(jax.jit(short)(np.arange(601)), trunk[:601])
    assert np.all(trunk[500:] == np.float32(0.1))
    assert jax.jit(short)(601) < trunk[601]


@pytest.mark.parametrize("index", range(4))
def test_sgdr_equals_pytorch(index):
    path = Path(__file__).parent / "fixtures" / "torch_warm_restarts.json"
    case = json.loads(path.read_text())[index]
    schedule = sgdr(case["base_lr"], case["T_0"], case["T_mult"], case["eta_min"])
    counts = np.arange(len(case["rates"])) / case["per_count"]
    if case["per_count"] == 1:
        counts = counts.astype(np.int32)
    # Near a minimum PyTorch's own sum of 1 and a cosine has cancelled.
    np.testing.assert_allclose(
        jax.jit(schedule)(counts),
        case["rates"],
        rtol=0,
        atol=CLOSE * case["base_lr"],
    )


def test_equals_optax_where_optax_has_the_same():
    counts = np.arange(700)
    # optax warms up from init_value to the peak and counts the warmup as part of the
    # cycle's decay_steps, as we do.
    ours = jax.jit(sgdr(0.1, 100, 2, 0.01, warmup_steps=30, warmup_every_cycle=True))(
        counts
    )
    theirs = optax.sgdr_schedule(
        [
            {
                "init_value": 0.01,
                "peak_value": 0.1,
                "warmup_steps": 30,
                "decay_steps": 100 * 2**i,
                "end_value": 0.01,
            }
            for i in range(3)
        ]
    )
    close = {"rtol": 0, "atol": 1e-7}
    np.testing.assert_allclose(ours, jax.jit(theirs)(counts), **close)
    shifted = make_warmup(steps=200, shift=True)
    theirs = optax.warmup_cosine_decay_schedule(0.002, 0.1, 200, 9200, 0.01)
    np.testing.assert_allclose(
        jax.jit(shifted)(counts), jax.jit(theirs)(counts), **close
    )
    steps = schedules.step_decay(0.1, [100, 300], 0.5)
    theirs = optax.piecewise_constant_schedule(0.1, {100: 0.5, 300: 0.5})
    np.testing.assert_allclose(jax.jit(steps)(counts), jax.jit(theirs)(counts), **close)


def test_works_inside_optax_transformations():
    def optimizer(peak, period):
        return optax.adam(sgdr(peak, period))

    # The period is given as an array: a number would be known, not traced.
    optimizer = optax.inject_hyperparams(optimizer)(0.1, jnp.int32(4))
    params = {"w": jnp.ones(3, jnp.bfloat16)}
    state = optimizer.init(params)
    updates, _ = jax.jit(optimizer.update)(params, state, params)
    assert updates["w"].dtype == jnp.bfloat16


def test_gradients_by_arguments_are_finite():
    def total(arguments):
        return make_sgdr(**arguments, mult=2)(np.arange(40)).sum()

    arguments = {"peak": 0.1, "period": 10.0, "end": 0.01, "warmup": 0.0, "decay": 0.9}
    gradient = jax.jit(jax.grad(total))(
        {k: jnp.float32(v) for k, v in arguments.items()}
    )
    assert all(np.isfinite(leaf) for leaf in gradient.values())
    assert float(gradient["peak"]) > 0


def test_linear_scaling():
    assert schedules.linear_scaling(0.05, 100, 5000) == 2.5
    traced = jax.jit(schedules.linear_scaling)(0.05, 100, jnp.array([100, 5000])[1])
    assert float(traced) == pytest.approx(2.5)


def test_a_wave_reaches_its_ends_exactly():
    schedule = jax.jit(schedules.cyclic(0.05, 30, 0.001))
    counts = 30 * np.arange(1, 1000)
    assert (schedule(counts) == np.float32(0.05)).all()
    assert (schedule(counts - 15) == np.float32(0.001)).all()


@given(st.integers(2, 400), st.floats(1e-6, 1), st.floats(0, 1))
@settings(derandomize=True, deadline=None, max_examples=10)
def test_a_wave_is_that_of_fast_geometric_ensembling(cycle, peak, share):
    """alpha(i) of Garipov et al. 2018, section 4, as it stands there: i is from 1."""
    low = share * peak
    i = np.arange(1, 1000)
    t = (np.mod(i - 1, cycle) + 1) / cycle
    first = (1 - 2 * t) * peak + 2 * t * low
    second = (2 - 2 * t) * low + (2 * t - 1) * peak
    values = np.asarray(jax.jit(schedules.cyclic(peak, cycle, low))(i))
    expected = np.where(t <= 0.5, first, second)
    np.testing.assert_allclose(values, expected, rtol=0, atol=CLOSE * peak)
    collected = np.mod(i - 1, cycle) + 1 == cycle / 2  # the paper's "if"
    assert (values[collected] == np.float32(low)).all()


def test_decays_reach_their_ends_exactly():
    for make in (schedules.linear_decay, schedules.cosine_decay):
        schedule = jax.jit(make(0.05, 12_345, 0.003))
        assert schedule(0) == np.float32(0.05)
        assert (schedule([12_345, 12_346, LAST]) == np.float32(0.003)).all()
        huge = jax.jit(make(0.05, 2**40, 0.003))
        assert huge(LAST) == pytest.approx(0.05, rel=2e-2)


def test_boundaries_are_exact_above_the_range_of_float32():
    schedule = jax.jit(schedules.step_decay(1.0, [2**24 + 0.5, 2**31 - 2], 0.5))
    counts = np.array([2**24, 2**24 + 1, 2**31 - 3, 2**31 - 2])
    assert schedule(counts).tolist() == [1.0, 0.5, 0.5, 0.25]
    assert schedules.step_decay(0.1, [], 0.5)(7) == np.float32(0.1)


def constant(_):
    return 0.1


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: sgdr(0.1, 0), "period must be at least 1, got 0; for a constant"),
        (lambda: sgdr(0.1, -5.0), r"got -5\.0"),
        (lambda: sgdr(0.1, math.nan), "got nan"),
        (lambda: sgdr(0.1, math.inf), "got inf"),
        (lambda: sgdr(0.1, 10, 0.5), r"mult must be at least 1, got 0\.5"),
        (
            lambda: sgdr(0.1, 10, warmup_steps=10),
            "warmup_steps must be below .* 10, got",
        ),
        (lambda: sgdr(0.1, 10, warmup_steps=-1), "at least 0, got -1"),
        (lambda: sgdr(0.1, 10, peak_decay=0), "peak_decay must be above 0, got 0"),
        (lambda: sgdr(0.1, 1, 1 + 1e-9), "mult=1.000000001 makes over"),
        (lambda: sgdr(0.1, np.array([1, 2])), "jax.vmap"),
        (lambda: sgdr_restarts(0, 2, 10), "period .* got 0"),
        (lambda: sgdr_restarts(5, 0, 10), "mult .* got 0"),
        (lambda: schedules.step_decay(0.1, [5, 3], 0.5), r"ascend, got \[5, 3\]"),
        (lambda: schedules.step_decay(0.1, [5, 5], 0.5), "ascend"),
        (lambda: schedules.step_decay(0.1, [-1], 0.5), "negative"),
        (lambda: schedules.step_decay(0.1, [5], 0.0), "factor .* got 0.0"),
        (lambda: schedules.step_decay(0.1, [5], 5), "to divide by 5, give 0.2"),
        (lambda: schedules.linear_decay(0.1, 0), "steps must be above 0, got 0"),
        (lambda: schedules.cosine_decay(0.1, -3), "got -3"),
        (lambda: schedules.warmup(constant, -1), "steps must be at least 0, got -1"),
        (lambda: schedules.per_epoch(constant, 0), "steps_per_epoch .* got 0"),
        (lambda: schedules.per_epoch(constant, 2.5), "whole, got 2.5"),
        (lambda: schedules.cyclic(0.1, 1), "period must be at least 2, got 1"),
        (lambda: schedules.wsd(0.1, 0, cooldown_steps=1), "steps must be above 0"),
        (lambda: schedules.wsd(0.1, 9, cooldown_steps=0), "cooldown_steps .* above 0"),
        (
            lambda: schedules.wsd(0.1, 9, warmup_steps=5, cooldown_steps=5),
            r"at most steps=9, got 5 \+ 5; shorten",
        ),
        (lambda: schedules.wsd(0.1, 9, warmup_steps=-1, cooldown_steps=1), "got -1"),
        (lambda: schedules.wsd(math.nan, 9, cooldown_steps=1), "peak_value .* nan"),
        (lambda: schedules.wsd(0.1, 9, cooldown_steps=1, shape="square"), "shape"),
        (lambda: schedules.linear_scaling(0.1, 0, 5), "base_batch .* got 0"),
    ],
)
def test_what_is_out_of_range_is_named(make, words):
    with pytest.raises(ValueError, match=words):
        make()


PERIODS = st.integers(1, 200) | st.floats(1, 50)
MULTS = st.integers(1, 5) | st.floats(1.05, 4)


@given(PERIODS, MULTS, st.booleans(), st.integers(0, 10**6))
@settings(derandomize=True, deadline=None, max_examples=4)
def test_sgdr_lies_between_its_ends_and_restarts_where_listed(
    period, mult, inclusive, offset
):
    schedule = jax.jit(sgdr(0.3, period, mult, 0.02, inclusive=inclusive))
    counts = offset + np.arange(500)
    values = np.asarray(schedule(counts))
    assert values.min() >= np.float32(0.02)
    assert values.max() <= np.float32(0.3)
    listed = sgdr_restarts(period, mult, offset + 500, inclusive=inclusive)
    rises = counts[1:][np.diff(values) > 0]
    assert set(rises.tolist()) <= set(listed)
    assert (values[np.isin(counts, listed)] == np.float32(0.3)).all()
