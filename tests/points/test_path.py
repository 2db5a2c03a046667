"""The numbers of a path."""

import jax.numpy as jnp
import numpy as np
import pytest

from kd_heuristics import curves, points

CORNER = curves.polychain([jnp.array(p, float) for p in ((0, 0), (3, 0), (3, 1))])
TS = [0.0, 0.25, 0.5, 0.75, 1.0]
VALUES = [4.0, 2.0, 5.0, 1.0, 2.0]


def test_all_numbers_of_a_path():
    # The steps are 1.5, 1.5, 0.5, 0.5 long; trapezoids 3, 3.5, 3, 1.5.
    assert points.path_summary(VALUES, TS, CORNER) == {
        "start": 4.0,
        "end": 2.0,
        "minimum": 1.0,
        "maximum": 5.0,
        "mean": pytest.approx(2.8),
        "barrier": 1.0,
        "not_finite": 0.0,
        "arc_integral": pytest.approx((1.5 * 6.5 + 0.5 * 4.5) / 4, rel=1e-6),
    }
    assert "arc_integral" not in points.path_summary(VALUES)


def test_reversing_a_path_mirrors_its_numbers():
    forth = points.path_summary(VALUES, TS, CORNER)
    back = points.path_summary(
        VALUES[::-1], TS, curves.polychain(CORNER.points[::-1])
    )  # fmt: skip
    assert (back.pop("start"), back.pop("end")) == (
        forth.pop("end"),
        forth.pop("start"),
    )
    assert back == pytest.approx(forth, rel=1e-6)


def test_a_point_that_overflowed_shows():
    found = points.path_summary([1.0, np.inf, np.nan, 1.0])
    assert found["not_finite"] == 2
    assert np.isnan(found["maximum"])
    assert points.path_summary([1.0, np.inf, 1.0])["barrier"] == np.inf


def test_barrier_is_of_inner_points_above_the_worse_end():
    assert points.barrier([1.0, 3.0, 2.0]) == 1.0
    assert points.barrier([3.0, 2.5, 1.0]) == 0.0


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: points.barrier([1.0, 2.0]), "at least 3 points, got 2"),
        (lambda: points.path_summary([1.0, 2.0]), "at least 3 points, got 2"),
        (lambda: points.path_summary(VALUES, curve=CORNER), "needs ts"),
        (lambda: points.path_summary(VALUES, TS[::-1], CORNER), "ascend"),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(ValueError, match=words):
        call()
