"""Curves against float64 NumPy, known values, and what a user can get wrong."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kd_heuristics import curves

KINDS = {"polychain": curves.polychain, "bezier": curves.bezier}
# A few float32 sums of values near 1, each with a rounding of 6e-8.
CLOSE = {"rtol": 1e-6, "atol": 1e-6}


def tree(seed, scale=1.0):
    """Weights of two types, an integer, a typed key, nothing, and a function."""
    numbers = np.random.default_rng(seed)
    return {
        "conv": {"kernel": jnp.asarray(numbers.normal(size=(3, 4)) * scale, "float32")},
        "half": jnp.asarray(numbers.normal(size=5) * scale, jnp.bfloat16),
        "step": jnp.int32(7),
        "key": jax.random.key(3),
        "nothing": None,
        "activation": math.tanh,
    }


def trees(num_points):
    return [tree(seed) for seed in range(num_points)]


def oracle_weights(kind, t, n):
    t = np.float64(t)
    if kind == "polychain":
        return [max(0.0, 1 - abs(t * (n - 1) - k)) for k in range(n)]
    return [math.comb(n - 1, k) * t**k * (1 - t) ** (n - 1 - k) for k in range(n)]


def kernels(points):
    return np.stack([np.asarray(p["conv"]["kernel"], np.float64) for p in points])


@pytest.mark.parametrize(
    ("kind", "num_points", "expected"),
    [
        ("bezier", 3, (0.5625, 0.375, 0.0625)),
        ("bezier", 5, (0.31640625, 0.421875, 0.2109375, 0.046875, 0.00390625)),
        ("polychain", 6, (0, 0.75, 0.25, 0, 0, 0)),
    ],
)
def test_known_coefficients(kind, num_points, expected):
    curve = KINDS[kind]([np.float32(k) for k in range(num_points)])
    assert curve.coefficients(0.25).tolist() == list(expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_points", [2, 3, 6])
def test_points_equal_the_weighted_sum(kind, num_points):
    points = trees(num_points)
    curve = KINDS[kind](points)
    ts = np.linspace(0, 1, 23)
    weights = np.array([oracle_weights(kind, t, num_points) for t in ts])
    np.testing.assert_allclose(jax.vmap(curve.coefficients)(ts), weights, **CLOSE)
    expected = np.einsum("tk,kij->tij", weights, kernels(points))
    mapped = jax.vmap(lambda t: curve.at(t)["conv"]["kernel"])(ts)
    np.testing.assert_allclose(mapped, expected, **CLOSE)
    arrays = KINDS[kind]([{"conv": point["conv"]} for point in points])
    jitted = jax.jit(lambda curve, t: curve.at(t)["conv"]["kernel"])
    np.testing.assert_allclose(jitted(arrays, ts[5]), expected[5], **CLOSE)


@pytest.mark.parametrize("kind", KINDS)
def test_other_leaves_and_types_stay(kind):
    points = trees(3)
    found = KINDS[kind](points).at(0.3)
    assert found["step"] is points[0]["step"]
    assert found["key"] is points[0]["key"]
    assert found["activation"] is math.tanh
    assert found["nothing"] is None
    assert found["half"].dtype == jnp.bfloat16
    # The sum runs in float32 and is rounded once, to the 8 bits of bfloat16.
    halves = np.array([np.asarray(p["half"], np.float64) for p in points])
    expected = oracle_weights(kind, 0.3, 3) @ halves
    np.testing.assert_allclose(
        np.asarray(found["half"], np.float64), expected, rtol=2**-8, atol=1e-6
    )


SPECIAL = [-0.0, 0.0, 1e-45, -3.4e38, 3.4e38, 1.1, 1 / 3]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_points", [2, 5])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.complex64])
def test_the_ends_are_exact_to_the_bit(kind, num_points, dtype):
    rows = [np.roll(SPECIAL, shift) for shift in range(num_points)]
    points = [jnp.asarray(row, dtype) for row in rows]
    curve = KINDS[kind](points)
    at = jax.jit(curve.at)
    for t, point in ((0, points[0]), (1, points[-1]), (1.0, points[-1])):
        for found in (curve.at(t), at(t), jax.vmap(at)(jnp.array([0.0, 1.0]))[int(t)]):
            assert np.asarray(found).tobytes() == np.asarray(point).tobytes()


def test_an_infinite_point_does_not_spoil_what_it_has_no_part_in():
    chain = curves.polychain([jnp.float32(v) for v in (jnp.inf, 1, 2, jnp.nan, 5)])
    assert chain.at(0.375) == 1.5
    curve = curves.bezier([jnp.float32(2), jnp.float32(jnp.nan), jnp.float32(jnp.inf)])
    assert curve.at(0.0) == 2.0
    assert curve.at(1.0) == jnp.inf


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_points", [2, 3, 4])
def test_derivatives_in_t(kind, num_points):
    values = np.random.default_rng(0).normal(size=num_points)
    curve = KINDS[kind]([jnp.float32(v) for v in values])
    n = num_points - 1
    steps = n * np.diff(values)
    forward, backward = jax.jit(jax.jacfwd(curve.at)), jax.jit(jax.grad(curve.at))
    # Both curves leave an end towards the next point, at n times their distance.
    for derivative in (forward, backward):
        np.testing.assert_allclose(derivative(0.0), steps[0], rtol=1e-5)
        np.testing.assert_allclose(derivative(1.0), steps[-1], rtol=1e-5)
    for t in (0.2, 0.9):
        if kind == "polychain":
            expected = steps[int(t * n)]
        else:
            expected = np.dot(oracle_weights("bezier", t, n), steps)
        np.testing.assert_allclose(forward(t), expected, rtol=1e-5)
    second = jax.jit(jax.grad(jax.grad(curve.at)))
    assert np.isfinite([second(0.0), second(0.5), second(1.0)]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_derivatives_in_the_points_are_the_coefficients(kind):
    points = [jnp.float32(v) for v in (1.0, -2.0, 0.5, 3.0)]

    def value(curve, t):
        return curve.at(t)

    for t in (0.0, 0.4, 1.0):
        gradient = jax.grad(value)(KINDS[kind](points), t)
        np.testing.assert_allclose(gradient.points, oracle_weights(kind, t, 4), **CLOSE)


@pytest.mark.parametrize("kind", KINDS)
def test_reversing_the_points_mirrors(kind):
    points = [{"w": jnp.float32(v)} for v in (1.0, -2.0, 0.5, 3.0)]
    forth, back = KINDS[kind](points), KINDS[kind](points[::-1])
    ts = np.linspace(0, 1, 9)  # 1 - t is exact.
    np.testing.assert_allclose(
        jax.vmap(forth.at)(ts)["w"], jax.vmap(back.at)(1 - ts)["w"], **CLOSE
    )
    np.testing.assert_allclose(curves.length(forth), curves.length(back), rtol=1e-5)
    np.testing.assert_allclose(
        curves.uniform_t(forth, 5), 1 - curves.uniform_t(back, 5)[::-1], atol=1e-5
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_bend_at_the_midpoint_gives_the_line(kind):
    a, b = jnp.array([1.0, -4.0]), jnp.array([3.0, 5.0])
    segment = curves.line(a, b)
    curve = KINDS[kind]([a, curves.midpoint(a, b), b])
    ts = np.linspace(0, 1, 11)
    np.testing.assert_allclose(
        jax.vmap(curve.at)(ts), jax.vmap(segment.at)(ts), rtol=1e-6, atol=1e-6
    )
    np.testing.assert_allclose(curves.length(curve), np.sqrt(4 + 81), rtol=1e-6)


def test_high_degrees_neither_overflow_nor_cancel():
    curve = curves.bezier([np.float32(1)] * 201)  # C(200, 100) is 9e58.
    weights = curve.coefficients(0.5)
    # Each of 200 steps rounds each weight by 6e-8.
    np.testing.assert_allclose(weights, oracle_weights("bezier", 0.5, 201), 2e-5, 1e-30)


def test_bends_are_what_an_optimiser_fits():
    a, b = {"w": jnp.array([-1.0, 0.0])}, {"w": jnp.array([1.0, 0.0])}
    segment = curves.line(a, b)
    target = jnp.array([0.0, 2.0])

    def loss(bends):
        return jnp.square(curves.with_bends(segment, bends).at(0.5)["w"] - target).sum()

    optimizer = optax.sgd(0.2)
    bends = (curves.midpoint(a, b),)
    state = optimizer.init(bends)

    @jax.jit
    def step(bends, state):
        updates, state = optimizer.update(jax.grad(loss)(bends), state)
        return optax.apply_updates(bends, updates), state

    for _ in range(40):
        bends, state = step(bends, state)
    fitted = curves.with_bends(segment, bends)
    np.testing.assert_allclose(fitted.at(0.5)["w"], target, atol=1e-4)
    assert fitted.points[0] is a
    assert fitted.points[-1] is b
    assert curves.bends(fitted) == bends
    assert curves.bends(segment) == ()


def test_with_free_ends_the_curve_itself_is_fitted():
    curve = curves.bezier([jnp.float32(0), jnp.float32(0)])

    def loss(curve):
        return (curve.at(0.0) - 1) ** 2 + (curve.at(1.0) + 1) ** 2

    for _ in range(30):
        curve = optax.apply_updates(
            curve, jax.tree.map(lambda g: -0.2 * g, jax.grad(loss)(curve))
        )
    np.testing.assert_allclose(curve.points, [1, -1], atol=1e-5)


def test_a_curve_is_immutable_and_passes_through_jit():
    curve = curves.line({"w": jnp.zeros(2)}, {"w": jnp.ones(2)})
    with pytest.raises(AttributeError):
        curve.points = ()
    back = jax.jit(lambda curve: curve)(curve)
    assert back.kind == "polychain"
    np.testing.assert_array_equal(back.at(0.5)["w"], [0.5, 0.5])
    traces = []

    @jax.jit
    def evaluate(curve, t):
        traces.append(1)
        return curve.at(t)

    evaluate(curve, 0.1)
    evaluate(curves.line({"w": jnp.ones(2)}, {"w": jnp.ones(2)}), 0.7)
    assert len(traces) == 1


def test_distance_counts_floating_point_leaves_only():
    a, b = tree(0), tree(1)
    b["step"], b["key"] = jnp.int32(9), jax.random.key(4)
    flat = [
        np.concatenate(
            [
                np.asarray(x["conv"]["kernel"], float).ravel(),
                np.asarray(x["half"], float),
            ]
        )
        for x in (a, b)
    ]
    expected = np.linalg.norm(flat[0] - flat[1])
    np.testing.assert_allclose(curves.distance(a, b), expected, rtol=1e-6)
    assert curves.distance({"z": jnp.array(3 + 4j)}, {"z": jnp.array(0j)}) == 5.0
    assert curves.distance({"n": 1}, {"n": 2}) == 0.0
    gradient = jax.grad(curves.distance)(jnp.ones(3), jnp.ones(3))
    np.testing.assert_array_equal(gradient, 0)
    # 2^16 bfloat16 steps of 1: a bfloat16 sum would stop at 256.
    half = curves.distance(
        jnp.ones(2**16, jnp.bfloat16), jnp.zeros(2**16, jnp.bfloat16)
    )
    assert half == 256.0


def changed(**leaves):
    return {**tree(1), **leaves}


@pytest.mark.parametrize("make", [*KINDS.values(), lambda p: curves.line(p[0], p[-1])])
@pytest.mark.parametrize(
    ("other", "words"),
    [
        (changed(step=jnp.int32(8)), "leaf 'step' .* values are 7 and 8"),
        (changed(key=jax.random.key(4)), "leaf 'key'"),
        (changed(activation=math.sin), "leaf 'activation'"),
        (changed(half=jnp.zeros(5)), "leaf 'half' .* type bfloat16 and float32"),
        (
            changed(conv={"kernel": jnp.zeros((4, 3))}),
            r"leaf 'conv/kernel' .* shape \(3, 4\) and \(4, 3\)",
        ),
        (changed(conv={}), "leaf 'conv/kernel' is missing in the second"),
        (changed(extra=jnp.zeros(1)), "leaf 'extra' is missing in the first"),
    ],
)
def test_trees_that_differ_are_named(make, other, words):
    with pytest.raises(ValueError, match=words):
        make([tree(0), tree(2), other])


def test_other_containers_are_named():
    pair = (jnp.zeros(1),)
    with pytest.raises(ValueError, match="'0' lies in containers of different types"):
        curves.line(pair, list(pair))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: curves.polychain([]), "at least two points, got 0"),
        (lambda: curves.bezier([1.0]), "at least two points, got 1"),
        (lambda: curves.line(0.0, 1.0).at(1.5), r"\[0, 1\], got 1.5"),
        (lambda: curves.line(0.0, 1.0).at(jnp.float32(-0.1)), "got -0.1"),
        (lambda: curves.line(0.0, 1.0).at(jnp.nan), "got nan"),
        (lambda: curves.line(0.0, 1.0).coefficients(2), "got 2"),
        (lambda: curves.line(0.0, 1.0).at(jnp.zeros(3)), "jax.vmap"),
        (lambda: curves.distance({"w": jnp.ones(2)}, {"w": jnp.ones(3)}), "leaf 'w'"),
        (lambda: curves.with_bends(curves.line(0.0, 1.0), [1]), "type float and int"),
    ],
)
def test_what_is_out_of_range_is_named(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_any_tree_will_do():
    for wrap in (tuple, list, lambda x: {"a": {"b": x}}):
        a, b = wrap([np.float32(1), 2.0]), wrap([np.float32(3), 4.0])
        leaves = jax.tree.leaves(curves.line(a, b).at(0.5))
        assert [float(leaf) for leaf in leaves] == [2.0, 3.0]


FINITE = st.floats(-(2.0**99), 2.0**99, width=32)


@given(st.lists(FINITE, min_size=2, max_size=4), st.floats(0, 1, width=32))
@settings(derandomize=True, deadline=None, max_examples=30)
def test_a_curve_stays_within_its_points(values, t):
    for make in KINDS.values():
        curve = make([np.float32(v) for v in values])
        assert np.float32(curve.at(0)).tobytes() == np.float32(values[0]).tobytes()
        assert np.float32(curve.at(1)).tobytes() == np.float32(values[-1]).tobytes()
        slack = 1e-6 * max(map(abs, values))
        assert min(values) - slack <= curve.at(t) <= max(values) + slack
