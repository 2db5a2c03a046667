"""The tools of a landscape in every mode of JAX; float64 where it is on."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kd_heuristics import freezing, landscape, training
from tests import modes
from tests.modes import enable_x64

RNG = np.random.default_rng(0)
RUN = np.cumsum(RNG.normal(size=(5, 12)), axis=0)
COORDINATES = 0.1234567890123, -0.7654321098765
MODES = modes.MODES | {"old keys": lambda: jax.legacy_prng_key("allow")}


def networks(dtype="float32"):
    return [
        {
            "fc": {"kernel": jnp.asarray(row[:8].reshape(4, 2), dtype)},
            "norm": {"scale": jnp.asarray(row[8:10], dtype)},
            "half": jnp.asarray(row[10:], "bfloat16"),
            "step": jnp.int32(3),
            "dropout": None,
        }
        for row in RUN
    ]


def directions(key):
    first, *_ = networks()
    return [
        landscape.random_direction(key, first, norm, vectors="weights")
        for norm in ("filter", "unit_layer", "weight")
    ]


def in_the_span(key):
    first, second, third, *_ = networks()
    span = landscape.span(first, second, third)
    found = span.at(*COORDINATES)
    return [found, span.at(1, np.float64(2)), span.project(second), span.project(found)]


def on_the_plane(key):
    plane = landscape.plane(*networks()[:3])
    points = [plane.at(*COORDINATES), plane.at(1, np.float64(2))]
    return [points, [plane.project(p, "span") for p in networks()], plane.anchors]


def of_a_run(key):
    return landscape.trajectory(networks(), 2)


def optimized(make):
    def run(key):
        params = {name: networks()[0][name] for name in ("fc", "norm")}
        optimizer = make()
        state = optimizer.init(params)
        for _ in range(3):
            updates, state = optimizer.update(params, state, params)
            params = optax.apply_updates(params, updates)
        return params

    return run


def is_head(name):
    return name == "fc/kernel"


TOOLS = {
    "directions": directions,
    "span": in_the_span,
    "plane": on_the_plane,
    "trajectory": of_a_run,
    "freeze sgd": optimized(
        lambda: freezing.freeze(optax.sgd(0.1, momentum=0.9), is_head, 2)
    ),
    "freeze": optimized(lambda: freezing.freeze(optax.adam(0.1), is_head, 2)),
    "sgd": optimized(lambda: training.sgd(0.1, weight_decay=0.1, clip_norm=1.0)),
    "adam": optimized(lambda: training.adam(0.1, weight_decay=0.1)),
    "shampoo": optimized(lambda: training.shampoo(0.1, weight_decay=0.1)),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", TOOLS)
def test_every_mode_gives_the_same(name, mode):
    if mode == "strict promotion" and name in ("freeze", "adam"):
        pytest.skip("optax's Adam does not run under strict promotion")
    old = mode == "old keys"
    expected = TOOLS[name](jax.random.key(0, impl="threefry2x32"))
    with MODES[mode]():
        found = TOOLS[name](jax.random.PRNGKey(0) if old else jax.random.key(0))
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for x, y in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
        close = 1e-2 if jnp.asarray(y).dtype == jnp.bfloat16 else 2e-5
        np.testing.assert_allclose(
            np.asarray(x, float), np.asarray(y, float), rtol=close, atol=close
        )


def flat(tree):
    return np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)])


def doubles():
    return [{"w": jnp.asarray(row.reshape(3, 4), "float64")} for row in RUN]


def test_span_and_trajectory_in_float64():
    with enable_x64(True):
        points = doubles()
        found = landscape.trajectory(points, 2)
        moved = found.span.at(*COORDINATES)
        back = found.span.project(moved)
        projected = found.span.project(points[1])
    rows = RUN - RUN[-1]
    _, _, vectors = np.linalg.svd(rows - rows.mean(0), full_matrices=False)
    axes = vectors[:2] * np.sign(vectors[:2] @ rows[0])[:, None]
    close = {"rtol": 0, "atol": 1e-12}
    for direction, axis in zip(found.span.directions, axes, strict=True):
        np.testing.assert_allclose(flat(direction), axis, **close)
    expected = RUN[-1] + COORDINATES[0] * axes[0] + COORDINATES[1] * axes[1]
    np.testing.assert_allclose(flat(moved), expected, **close)
    np.testing.assert_allclose(back, COORDINATES, **close)
    np.testing.assert_allclose(projected, axes @ rows[1], **close)


def test_plane_in_float64():
    with enable_x64(True):
        for axes in ("pca", "gram_schmidt"):
            plane = landscape.plane(*doubles()[:3], axes=axes)
            back = plane.project(plane.at(*COORDINATES))
            np.testing.assert_allclose(back, COORDINATES, rtol=0, atol=1e-12)


def test_directions_in_float64():
    with enable_x64(True):
        w, d = doubles()[:2]
        found = flat(landscape.normalize_direction(d, w)).reshape(3, 4)
    w, d = RUN[0].reshape(3, 4), RUN[1].reshape(3, 4)
    expected = d * np.linalg.norm(w, axis=0) / np.linalg.norm(d, axis=0)
    np.testing.assert_allclose(found, expected, rtol=1e-14)
