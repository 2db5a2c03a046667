"""What is not finite stays so, or is named: no plausible number comes of it."""

import jax.numpy as jnp
import numpy as np
import pytest

from kd_heuristics import curves, points

SIZES = (3, 5_000)  # jax 0.10.2 loses NaN in a maximum of 4,096 elements or more
GOOD = {size: {"w": np.linspace(0, 1, size, dtype=np.float32)} for size in SIZES}
MAKERS = {"polychain": curves.polychain, "bezier": curves.bezier}


def spoiled(size, value, at):
    tree = {"w": GOOD[size]["w"].copy()}
    tree["w"][at] = value
    return tree


@pytest.fixture(params=SIZES)
def size(request):
    return request.param


@pytest.fixture(params=[0, -1])
def bad(request, size):
    return spoiled(size, np.nan, request.param)


@pytest.mark.parametrize("turned", [False, True])
def test_a_distance_to_nan_is_nan(size, bad, turned):
    pair = (GOOD[size], bad)[:: -1 if turned else 1]
    assert np.isnan(curves.distance(*pair))
    assert np.isnan(curves.distance(bad, bad))


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_arc_length_over_nan_is_nan(size, bad, kind, place):
    trees = [GOOD[size], {"w": GOOD[size]["w"] + 1}, GOOD[size]]
    trees[place] = bad
    curve = MAKERS[kind](trees)
    assert np.isnan(curves.length(curve))
    assert np.isnan(curves.uniform_t(curve, 4)).all()
    found = curves.arc_integral([0.0, 0.5, 1.0], [1.0, 2.0, 3.0], curve)
    assert np.isnan(found)
    summary = points.path_summary([1.0, 2.0, 3.0], [0.0, 0.5, 1.0], curve)
    assert np.isnan(summary["arc_integral"])


@pytest.mark.parametrize("kind", MAKERS)
def test_an_infinite_point_leaves_no_equal_steps(size, kind):
    curve = MAKERS[kind]([GOOD[size], spoiled(size, np.inf, 0)])
    assert not np.isfinite(curves.length(curve))
    assert np.isnan(curves.uniform_t(curve, 3)).all()
    assert np.isnan(curves.arc_integral([0.0, 1.0], [1.0, 3.0], curve))


@pytest.mark.parametrize("place", range(4))
def test_a_barrier_over_nan_is_nan(place):
    values = [1.0, 2.0, 3.0, 1.0]
    values[place] = np.nan
    assert np.isnan(points.barrier(values))
    assert np.isnan(points.path_summary(values)["barrier"])


@pytest.mark.parametrize("decay", [np.nan, np.inf, -1.0])
def test_a_decay_that_is_no_number_is_refused(decay):
    with pytest.raises(ValueError, match=f"weight_decay must be .* got {decay}"):
        curves.CurveLoss(weight_decay=decay)


def test_points_that_coincide_still_have_length_0_and_uniform_t():
    curve = curves.line(GOOD[3], GOOD[3])
    assert float(curves.length(curve)) == 0
    assert curves.uniform_t(curve, 3).tolist() == [0, 0.5, 1]
    assert float(curves.arc_integral(jnp.array([0.0, 1.0]), [1.0, 3.0], curve)) == 2
