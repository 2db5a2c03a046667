"""Directions, spans and trajectories against float64 NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_heuristics import landscape

PARAMS = {
    "conv": jnp.asarray(np.random.default_rng(0).normal(size=(3, 3, 2, 5)), "float32"),
    "fc": {
        "kernel": jnp.asarray(np.random.default_rng(1).normal(size=(4, 6)), "float32"),
        "bias": jnp.asarray(np.random.default_rng(2).normal(size=6), jnp.float32),
    },
    "step": jnp.int32(3),
}
KEY = jax.random.key(0)
RAW = landscape.random_direction(KEY, PARAMS, norm=None)


def norms(array, axes):
    return np.sqrt(np.square(np.asarray(array, np.float64)).sum(axes))


def expected(norm, w, d):
    w, d = np.asarray(w, np.float64), np.asarray(d, np.float64)
    filters = tuple(range(d.ndim - 1))
    return {
        "filter": d * norms(w, filters) / norms(d, filters),
        "layer": d * norms(w, None) / norms(d, None),
        "unit_filter": d / norms(d, filters),
        "unit_layer": d / norms(d, None),
        "weight": d * w,
    }[norm]


@pytest.mark.parametrize(
    "norm", ["filter", "layer", "unit_filter", "unit_layer", "weight"]
)
def test_normalisation_equals_numpy(norm):
    found = landscape.random_direction(KEY, PARAMS, norm)
    for name in ("conv",):
        np.testing.assert_allclose(
            found[name], expected(norm, PARAMS[name], RAW[name]), rtol=2e-6, atol=1e-7
        )
    np.testing.assert_allclose(
        found["fc"]["kernel"],
        expected(norm, PARAMS["fc"]["kernel"], RAW["fc"]["kernel"]),
        rtol=2e-6,
        atol=1e-7,
    )
    assert not found["fc"]["bias"].any()
    assert found["step"] == 3


def test_vectors_may_move_with_their_weights():
    found = landscape.random_direction(KEY, PARAMS, "filter", vectors="weights")
    np.testing.assert_array_equal(found["fc"]["bias"], PARAMS["fc"]["bias"])


def test_filters_of_other_libraries_lie_first():
    w = jnp.asarray(PARAMS["fc"]["kernel"]).T
    found = landscape.normalize_direction(jnp.ones((6, 4)), w, filter_axis=0)
    np.testing.assert_allclose(norms(found, 1), norms(w, 1), rtol=1e-6)


def test_scaling_a_filter_scales_its_direction_only():
    scaled = PARAMS | {"conv": PARAMS["conv"].at[..., 2].multiply(8.0)}
    before = landscape.normalize_direction(RAW, PARAMS)["conv"]
    after = landscape.normalize_direction(RAW, scaled)["conv"]
    np.testing.assert_allclose(after[..., 2], 8 * before[..., 2], rtol=1e-6)
    np.testing.assert_array_equal(after[..., 0], before[..., 0])


def test_directions_are_drawn_anew_by_key_and_place():
    same = landscape.random_direction(KEY, PARAMS, norm=None)
    np.testing.assert_array_equal(same["conv"], RAW["conv"])
    other = landscape.random_direction(jax.random.key(1), PARAMS, norm=None)
    assert (other["conv"] != RAW["conv"]).all()
    two = landscape.random_direction(KEY, [jnp.zeros(9), jnp.zeros(9)], norm=None)
    assert (two[0] != two[1]).all()


def test_dead_filters_and_zero_directions_stay_finite():
    w = jnp.array([[0.0, 1.0], [0.0, 1.0]])
    for d in (jnp.ones((2, 2)), jnp.zeros((2, 2))):
        for norm in ("filter", "layer", "unit_filter", "unit_layer"):
            assert np.isfinite(landscape.normalize_direction(d, w, norm)).all()
    np.testing.assert_array_equal(
        landscape.normalize_direction(jnp.ones((2, 2)), w)[:, 0], 0
    )


def test_a_span_moves_along_its_directions():
    second = landscape.random_direction(jax.random.key(5), PARAMS)
    span = landscape.span(PARAMS, landscape.random_direction(KEY, PARAMS), second)
    found = span.at(0.5, -2.0)
    for path in (lambda t: t["conv"], lambda t: t["fc"]["kernel"]):
        steps = [np.asarray(path(d), np.float64) for d in span.directions]
        total = np.asarray(path(PARAMS), np.float64) + 0.5 * steps[0] - 2 * steps[1]
        np.testing.assert_allclose(path(found), total, rtol=1e-5, atol=1e-6)
    assert found["step"] is PARAMS["step"]
    # Inverted, also where directions are not orthogonal.
    np.testing.assert_allclose(span.project(found), [0.5, -2.0], rtol=1e-5)
    mapped = jax.jit(jax.vmap(lambda x: span.at(x, x)["conv"]))(jnp.array([0.0, 1.0]))
    assert np.asarray(mapped[0]).tobytes() == np.asarray(PARAMS["conv"]).tobytes()
    slope = jax.jacfwd(lambda x: span.at(x, 0.0)["conv"])(0.0)
    np.testing.assert_allclose(slope, span.directions[0]["conv"], rtol=1e-6)


def test_the_origin_of_a_span_is_exact():
    origin = jnp.array([-0.0, 1e-45, 3.4e38])
    found = landscape.span(origin, jnp.ones(3)).at(0)
    assert np.asarray(found).tobytes() == np.asarray(origin).tobytes()


RUN = np.cumsum(np.random.default_rng(4).normal(size=(7, 12)), axis=0)


@pytest.mark.parametrize("centred", [True, False])
def test_trajectory_equals_singular_vectors(centred):
    networks = [{"w": jnp.asarray(row.reshape(3, 4), jnp.float32)} for row in RUN]
    found = landscape.trajectory(networks, 2, centred=centred)
    rows = RUN.astype(np.float32).astype(np.float64)
    rows = rows - rows[-1]
    data = rows - rows.mean(0) if centred else rows
    _, singular, vectors = np.linalg.svd(data, full_matrices=False)
    signs = np.sign(vectors[:2] @ rows[0])
    axes = vectors[:2] * signs[:, None]
    np.testing.assert_allclose(found.coordinates, rows @ axes.T, rtol=1e-9, atol=1e-9)
    share = np.square(singular)[:2] / np.square(singular).sum()
    np.testing.assert_allclose(found.shares, share, rtol=1e-9)
    for direction, axis in zip(found.span.directions, axes, strict=True):
        np.testing.assert_allclose(direction["w"].ravel(), axis, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(found.span.at(0, 0)["w"], networks[-1]["w"])
    np.testing.assert_allclose(
        found.span.project(networks[2]), found.coordinates[2], rtol=1e-4, atol=1e-5
    )


LINE = [jnp.array([t, 2 * t, 0.0]) for t in (0.0, 1.0, 2.5)]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: landscape.random_direction(KEY, PARAMS, "batch"), "got 'batch'"),
        (
            lambda: landscape.random_direction(KEY, PARAMS, vectors="no"),
            "got 'no'",
        ),
        (
            lambda: landscape.normalize_direction(jnp.ones(2), jnp.ones(3)),
            r"shape \(3,\) and \(2,\)",
        ),
        (lambda: landscape.span(jnp.ones(2)), "at least one direction"),
        (lambda: landscape.span(jnp.ones(2), jnp.ones(3)), "shape"),
        (lambda: landscape.span(jnp.ones(2), jnp.ones(2)).at(1, 2), "got 2"),
        (
            lambda: landscape.span(jnp.ones(2), jnp.ones(2)).project(jnp.ones(3)),
            "shape",
        ),
        (lambda: landscape.trajectory(LINE[:2], 2), "at least 3 networks, got 2"),
        (lambda: landscape.trajectory(LINE, 0), "at least 1, got 0"),
        (lambda: landscape.trajectory(LINE, 2), "have rank 1,"),
        (lambda: landscape.trajectory([LINE[1]] * 3, 1), "have rank 0,"),
        (lambda: landscape.trajectory([*LINE, jnp.ones(2)], 1), "shape"),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(ValueError, match=words):
        call()
