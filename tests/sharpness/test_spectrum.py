"""Eigenvalues and density against dense float64 linear algebra."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from kd_heuristics import sharpness
from tests.modes import enable_x64
from tests.sharpness import nets

KEY = jax.random.key(0)


@pytest.mark.parametrize(("num_steps", "num_products"), [(300, 20), (0, 40)])
def test_top_of_an_mlp_equals_dense_eigh(num_steps, num_products):
    with enable_x64(True):
        params = nets.trained(nets.mlp(0), num_steps) if num_steps else nets.mlp(0)
        whole = nets.batches(1)
        hessian, _ = nets.dense(nets.loss, params, jax.tree.map(lambda x: x[0], whole))
        assert hessian.shape == (1210, 1210)
        expected, axes = np.linalg.eigh(hessian)
        expected, axes = expected[:-4:-1], axes[:, :-4:-1]
        for batches in (whole, nets.batches(4)):
            values, vectors = sharpness.top(
                nets.loss, params, batches, 3, key=KEY, num_products=num_products
            )
            close = {"rtol": 0, "atol": 1e-6 * expected[0]}
            np.testing.assert_allclose(values, expected, **close)
            found = np.stack([ravel_pytree(vector)[0] for vector in vectors], 1)
            # An eigenvector's error is the root of its eigenvalue's, over the gap.
            np.testing.assert_allclose(np.abs(axes.T @ found), np.eye(3), atol=1e-4)


def test_batches_in_float32_equal_the_whole():
    params = nets.mlp(1, units=4, dtype=jnp.float32)
    found = [
        sharpness.top(nets.loss, params, nets.batches(number, 96), 2, key=KEY)[0]
        for number in (1, 8)
    ]
    np.testing.assert_allclose(*found, rtol=1e-5)


def test_a_mask_weighs_the_batches_by_their_examples():
    matrices = nets.symmetric(5, 8).astype(np.float32)
    mask = np.arange(8) < 5
    padded = np.where(mask[:, None, None], matrices, np.nan).reshape(2, 4, 5, 5)

    def loss(params, batch):
        kept = batch["mask"]
        curved = jnp.where(kept[:, None, None], batch["a"], 0)
        return nets.quadratic(params, curved) * len(kept) / kept.sum()

    for parts in (2, 4):  # a fourth batch has no example
        batches = {
            "a": padded.reshape(parts, -1, 5, 5),
            "mask": mask.reshape(parts, -1),
        }
        found, _ = sharpness.top(loss, np.ones(5, np.float32), batches, 5, key=KEY)
        expected = np.linalg.eigvalsh(matrices[mask].mean(0, dtype=np.float64))[::-1]
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_dead_networks_and_multiple_eigenvalues():
    params = jax.tree.map(jnp.zeros_like, nets.mlp(0, units=2, dtype=jnp.float32))
    dead = functools.partial(nets.loss, act=lambda x: 0 * x)

    def constant(params, batch):
        return 0.0 * dead(params, batch)

    batches = nets.batches(2, 8)
    values, vectors = sharpness.top(constant, params, batches, 3, key=KEY)
    np.testing.assert_array_equal(values, np.zeros(3))
    flat = np.stack([ravel_pytree(vector)[0] for vector in vectors])
    np.testing.assert_allclose(flat @ flat.T, np.eye(3), atol=1e-5)
    nodes, weights = sharpness.density(constant, params, batches, key=KEY)
    np.testing.assert_array_equal(nodes, np.zeros_like(nodes))
    assert float(weights.sum()) == pytest.approx(1, abs=1e-5)
    # Only the last biases curve the loss: most eigenvalues are 0.
    values, _ = sharpness.top(dead, params, batches, 20, key=KEY)
    assert np.isfinite(values).all()
    matrix = np.diag(np.float32([3, 3, 3, 1, 0, -2]))[None, None]
    values, _ = sharpness.top(
        nets.quadratic, np.ones(6, np.float32), matrix, 6, key=KEY, num_products=99
    )
    np.testing.assert_allclose(values, [3, 3, 3, 1, 0, -2], atol=1e-5)


def test_leaves_that_are_not_floating_point_stay_fixed():
    def loss(params, batch):
        scaled = params["w"].astype(jnp.float32) * params["scale"]
        return (scaled**2 * batch).sum() / 2

    params = {"scale": jnp.int32(3), "w": jnp.ones(4, jnp.bfloat16), "none": None}
    batches = np.float32([[1, 2, 3, 4]])
    values, vectors = sharpness.top(loss, params, batches, 2, key=KEY)
    np.testing.assert_allclose(values, [36, 27], rtol=1e-5)
    assert vectors[0]["scale"] == 3
    assert vectors[0]["none"] is None
    assert vectors[0]["w"].dtype == jnp.float32
    np.testing.assert_allclose(np.abs(vectors[0]["w"]), [0, 0, 0, 1], atol=1e-5)


def test_density_has_the_moments_of_the_spectrum():
    matrices = nets.symmetric(60, 1, seed=3) / 8
    spectrum = np.linalg.eigvalsh(matrices[0])
    nodes, weights = sharpness.density(
        nets.quadratic,
        np.ones(60, np.float32),
        matrices[None].astype(np.float32),
        key=KEY,
        num_products=20,
        num_samples=200,
    )
    assert nodes.shape == weights.shape == (4000,)
    assert (np.diff(nodes) >= 0).all()
    assert float(weights.sum()) == pytest.approx(1, abs=1e-5)
    # Of 200 vectors of 60 entries: sqrt(2 / (200 * 60)) of the next moment, 4 times.
    for power in (1, 2, 3):
        moment = float((weights * nodes**power).sum())
        spread = np.sqrt(2 * (spectrum ** (2 * power)).mean() / (200 * 60))
        assert abs(moment - (spectrum**power).mean()) < 4 * spread
    assert nodes.max() == pytest.approx(spectrum.max(), rel=1e-3)


def test_work_is_linear_in_the_examples_and_memory_flat():
    params = nets.mlp(0, units=4, dtype=jnp.float32)
    found = {}
    for number in (2, 8):
        batches = nets.batches(number, 16 * number)
        program = sharpness.spectrum._top.lower(
            jax.tree_util.Partial(nets.loss), params, batches, KEY, k=1, num_products=20
        ).compile()
        found[number] = program
    temporary = [
        found[number].memory_analysis().temp_size_in_bytes for number in (2, 8)
    ]
    # The program is one, a loop over the batches, whose number alone differs.
    assert temporary[1] <= 1.02 * temporary[0]
    lines = [len(found[number].as_text().splitlines()) for number in (2, 8)]
    assert abs(lines[0] - lines[1]) <= 0.02 * lines[0]
