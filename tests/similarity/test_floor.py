"""The value of unrelated layers, against simulated ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_heuristics import similarity


def simulated(n, p, q, repeats, rng, spectral=False):
    def noise(k):
        x = rng.normal(size=(n, k)) + (1j * rng.normal(size=(n, k)) if spectral else 0)
        return np.linalg.qr(x - x.mean(0))[0]

    rho = [
        np.linalg.svd(noise(p).conj().T @ noise(q), compute_uv=False).mean()
        for _ in range(repeats)
    ]
    return np.mean(rho), 4 * np.std(rho) / repeats**0.5


@pytest.mark.parametrize(
    ("n", "p", "q", "repeats", "error"),
    [
        (50, 1, 1, 3000, 0),
        (60, 1, 7, 2000, 0),
        (80, 2, 3, 2000, 0.04),
        (80, 6, 6, 500, 0.01),
        (120, 4, 40, 100, 0.01),
        (90, 20, 50, 100, 0.01),
        (60, 30, 40, 100, 0.01),
    ],
)
def test_gaussian_noise(n, p, q, repeats, error):
    mean, spread = simulated(n, p, q, repeats, np.random.default_rng(n + p + q))
    floor = similarity.noise_floor(n, p, q)
    assert floor == similarity.noise_floor(n, q, p, measure="svcca")
    np.testing.assert_allclose(floor, mean, atol=spread, rtol=error)


@pytest.mark.parametrize(("p", "q"), [(1, 2), (6, 9)])
def test_complex_noise(p, q):
    mean, spread = simulated(60, p, q, 500, np.random.default_rng(p), spectral=True)
    floor = similarity.noise_floor(60, p, q, spectral=True)
    np.testing.assert_allclose(floor, mean, atol=spread, rtol=0.01)


def test_the_published_floors_of_googles_mean():
    # 10,000 examples, as in Gotmare et al. 2019's code.
    for width, value in ((128, 0.110), (512, 0.221)):
        floor = similarity.noise_floor(10_000, width, width, measure="google_cca")
        assert round(floor, 3) == value


def test_other_measures_of_noise():
    rng = np.random.default_rng(0)
    n, p, q = 100, 20, 30
    x, y = (rng.normal(size=(40, n, k)).astype(np.float32) for k in (p, q))
    debiased = jax.vmap(lambda x, y: similarity.cka(x, y, debiased=True))(x, y)
    # 40 values of spread about 0.02 around 0.
    assert abs(np.mean(debiased)) < 0.01
    assert (debiased < 0).any()
    for name in ("google_cca", "cka", "pwcca"):
        floor = similarity.noise_floor(n, p, q, measure=name)
        found = jax.vmap(getattr(similarity, name))(x, y)
        np.testing.assert_allclose(np.mean(found), floor, rtol=0.02, err_msg=name)


def test_saturated_noise():
    assert similarity.noise_floor(100, 99, 1) == 1
    assert similarity.noise_floor(100, 40, 500) == 1
    assert similarity.noise_floor(100, 60, 60) > 20 / 60
    grows = [similarity.noise_floor(n, 20, 20) for n in (30, 50, 100, 1000, 10**6)]
    assert (np.diff(grows) < 0).all()


def test_shuffling_finds_the_floor_of_what_is_not_gaussian():
    rng = np.random.default_rng(1)
    n = 300
    # Positions of a map repeat each other: 4 positions are no 4 examples.
    one = np.float32(rng.normal(size=(n, 1, 1, 3)))
    maps = np.broadcast_to(one, (n, 2, 2, 3))
    acts = {"conv": maps}
    args = acts, None, jax.random.key(0), "cca", "positions"
    floor = similarity.shuffled_floor(*args, repeats=6)
    assert floor.shape == (1, 1)
    np.testing.assert_allclose(floor, similarity.noise_floor(n, 3, 3), rtol=0.3)
    assert floor > 1.4 * similarity.noise_floor(4 * n, 3, 3)


def test_maps_relative_to_the_floor():
    values = jnp.array([[1.0, 0.4], [0.2, 0.1]])
    relative = similarity.above_floor(values, jnp.array([[0.2, 0.4], [0.2, 1.0]]))
    np.testing.assert_allclose(relative, [[1, 0], [0, 0]], atol=1e-6)


@pytest.mark.parametrize("args", [(1, 2, 2), (10, 0, 2), (10, 2, -1)])
def test_bad_sizes(args):
    with pytest.raises(ValueError, match="noise_floor needs num_examples >= 2"):
        similarity.noise_floor(*args)
    with pytest.raises(ValueError, match="unknown measure"):
        similarity.noise_floor(10, 2, 2, measure="dft")


def test_nan_stays_nan_above_the_floor():
    values, floor = jnp.array([[0.5, jnp.nan, 0.5]]), jnp.array([[0.2, 0.2, jnp.nan]])
    assert np.isnan(similarity.above_floor(values, floor)).tolist() == [[0, 1, 1]]
    assert np.isnan(similarity.above_floor(jnp.array([jnp.nan]), jnp.nan)).all()


@pytest.mark.parametrize("measure", ["knn", "rsa", "debiased_cka"])
def test_measures_of_examples_against_noise(measure):
    x, y = np.random.default_rng(0).normal(size=(2, 400, 20)).astype(np.float32)
    value = similarity.matrix({"x": x}, {"y": y}, measure)[0, 0]
    floor = similarity.noise_floor(400, 20, 20, measure=measure)
    np.testing.assert_allclose(value, floor, atol=0.01)
    assert similarity.noise_floor(5, 20, 20, measure=measure) <= 1
