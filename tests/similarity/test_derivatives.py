"""Derivatives against finite differences in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_heuristics import similarity
from kd_heuristics.similarity.factors import compare, prepare_moments
from kd_heuristics.similarity.measure import Measure
from tests.modes import enable_x64
from tests.similarity.table import related, smooth, with_derivatives

CCA = Measure(name="cca")


def agree(function, x, y, step, atol):
    """The derivative along a random direction, and by central differences."""
    rng = np.random.default_rng(0)
    dx, dy = rng.normal(size=x.shape), rng.normal(size=y.shape)
    both = jax.jit(with_derivatives(function))
    with enable_x64(True):
        slopes, value = jax.device_get(both(x, y))
        ends = [
            np.asarray(both(x + way * dx, y + way * dy)[1]) for way in (step, -step)
        ]
    along = [np.tensordot(g, d, 2) for g, d in zip(slopes, (dx, dy), strict=True)]
    differences = (ends[0] - ends[1]) / (2 * step)
    np.testing.assert_allclose(sum(along), differences, atol=atol)
    assert abs(differences).min() > 100 * atol
    return value


@pytest.mark.parametrize("shape", ["tall", "wide, of low rank"])
def test_all_measures(shape):
    if shape == "tall":
        x, y = related(10, 60, 5, 3)
        function = smooth
    else:
        x, y = related(10, 12, 4, 3)
        rng = np.random.default_rng(11)
        to_x, to_y = rng.normal(size=(4, 14)), rng.normal(size=(3, 13))

        def function(x, y):
            return smooth(x @ to_x, y @ to_y)

    # 1e-12 of curvature and 1e-10 of rounding.
    agree(function, x, y, 1e-6, 1e-8)


def test_repeated_correlations_and_low_rank():
    rng = np.random.default_rng(11)
    q = rng.normal(size=(50, 8))
    q, _ = np.linalg.qr(q - q.mean(0))
    # Correlations .6, .6, .6, .2: a group of three, with every basis of it equal.
    rho = np.array([0.6, 0.6, 0.6, 0.2])
    x = q[:, :4] @ rng.normal(size=(4, 4))
    y = (q[:, :4] * rho + q[:, 4:] * np.sqrt(1 - rho**2)) @ rng.normal(size=(4, 4))
    # A fifth unit of x adds no direction, wherever the others move.
    extend = np.concatenate([np.eye(4), rng.normal(size=(4, 1))], axis=1)

    def by_moments(x, y):
        x, y = (z - jnp.mean(z, 0, keepdims=True) for z in (x, y))
        a, b = (
            prepare_moments(CCA, z.T @ z, jnp.zeros(z.shape[1]), jnp.array(50.0))
            for z in (x, y)
        )
        return 4 * compare(CCA, a.factor.T @ (x.T @ y) @ b.factor, a, b)

    def both(x, y):
        x = x @ extend
        return jnp.stack([jnp.sum(similarity.cca(x, y)), by_moments(x, y)])

    # The sum is smooth although the single correlations are not. Curvature leaves
    # 1e-7 in the differences.
    value = agree(both, x, y, 1e-5, 1e-6)
    np.testing.assert_allclose(value, rho.sum(), atol=1e-10)


def test_directions_that_are_left_out_turn_into_the_kept_ones():
    def kept(x, y):
        return jnp.stack(
            [
                similarity.svcca(x, y, directions=2),
                similarity.svcca(x, y, variance=0.9),
            ]
        )

    scales = np.array([4.0, 3.0, 1.0, 0.9, 0.1])
    x, y = related(10, 60, 5, 3)
    agree(kept, x * scales, y * scales[:3], 1e-6, 1e-8)
