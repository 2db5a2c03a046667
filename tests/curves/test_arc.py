"""Arc length against fine polylines in NumPy."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_heuristics import curves

KINDS = {"polychain": curves.polychain, "bezier": curves.bezier}


def oracle_weights(kind, t, n):
    t = np.float64(t)
    if kind == "polychain":
        return [max(0.0, 1 - abs(t * (n - 1) - k)) for k in range(n)]
    return [math.comb(n - 1, k) * t**k * (1 - t) ** (n - 1 - k) for k in range(n)]


def polyline_length(kind, points, num):
    ts = np.linspace(0, 1, num)
    weights = np.array([oracle_weights(kind, t, len(points)) for t in ts])
    path = weights @ np.array(points, np.float64)
    return np.linalg.norm(np.diff(path, axis=0), axis=1)


@pytest.mark.parametrize("kind", KINDS)
def test_lengths_and_equal_steps(kind):
    numbers = np.random.default_rng(1)
    points = numbers.normal(size=(4, 6)).astype(np.float32)
    curve = KINDS[kind]([{"w": jnp.asarray(p), "n": 3} for p in points])
    expected = polyline_length(kind, points, 30_001).sum()
    np.testing.assert_allclose(curves.length(curve), expected, rtol=1e-5)
    ts = curves.uniform_t(curve, 8)
    assert (ts[0], ts[-1]) == (0, 1)
    # The length of each part, measured in NumPy.
    fine = np.linspace(0, 1, 30_001)
    position = np.append(0, np.cumsum(polyline_length(kind, points, 30_001)))
    steps = np.diff(np.interp(ts, fine, position))
    np.testing.assert_allclose(steps, expected / 7, rtol=2e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_arc_integral_weights_by_length(kind):
    points = [jnp.array([0.0, 0.0]), jnp.array([6.0, 0.0]), jnp.array([6.0, 1.0])]
    curve = KINDS[kind](points)
    ts = np.linspace(0, 1, 41)
    values = np.cos(3 * ts)
    fine = np.linspace(0, 1, 30_001)
    position = np.append(0, np.cumsum(polyline_length(kind, points, 30_001)))
    steps = np.diff(np.interp(ts, fine, position))
    expected = ((values[1:] + values[:-1]) / 2 * steps).sum() / steps.sum()
    found = curves.arc_integral(ts, values, curve)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    inside = curves.arc_integral(ts[3:], np.full(38, 0.25), curve)
    np.testing.assert_allclose(inside, 0.25, rtol=1e-6)
    jitted = jax.jit(curves.arc_integral)(ts, values, curve)
    np.testing.assert_allclose(jitted, expected, rtol=1e-4)


def test_a_curve_of_no_length():
    curve = curves.polychain([jnp.ones(3)] * 3)
    assert curves.length(curve) == 0
    np.testing.assert_allclose(curves.uniform_t(curve, 3), [0, 0.5, 1])
    assert curves.arc_integral([0, 0.5, 1], [1.0, 2.0, 3.0], curve) == 2.0


@pytest.mark.parametrize("size", [1e-3, 0.1, 1.0, 1e3])
def test_equal_distances_do_not_depend_on_the_size_of_the_curve(size):
    curve = curves.polychain([jnp.float32(size * x) for x in (0, 3, 4)])
    np.testing.assert_allclose(
        curves.uniform_t(curve, 3), [0, 1 / 3, 1], rtol=1e-5, atol=1e-7
    )


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: curves.length(curves.line(0.0, 1.0), 0), "at least 1"),
        (lambda: curves.uniform_t(curves.line(0.0, 1.0), 1), "at least 2"),
        (
            lambda: curves.arc_integral([0.5, 0.1], [1, 2], curves.line(0.0, 1.0)),
            "ascend",
        ),
        (lambda: curves.arc_integral([0.5], [1], curves.line(0.0, 1.0)), "at least 2"),
    ],
)
def test_what_is_out_of_range_is_named(make, words):
    with pytest.raises(ValueError, match=words):
        make()
