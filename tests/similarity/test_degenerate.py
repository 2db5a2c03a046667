"""Dead, constant, duplicate, low-rank and too many units, under jit, vmap and grad."""

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_heuristics import similarity
from tests.modes import enable_x64
from tests.similarity import oracles
from tests.similarity.table import MEASURES, means, related, with_derivatives

# All cases of one shape, so that each measure compiles once.
N, P, Q = 40, 6, 5


def tall():
    rng = np.random.default_rng(5)
    x, y = related(6, N, P, Q)
    cases = {"good": (x, y)}
    cases["a dead unit"] = x * (np.arange(P) != 2), y
    cases["a constant unit"] = np.where(np.arange(P) == 2, 0.1, x), y
    cases["duplicate units"] = x[:, [0, 0, 1, 1, 2, 2]], y
    cases["rank 2"] = x[:, :2] @ rng.normal(size=(2, P)), y
    cases["rank 2 under a large mean"] = 1000 + x[:, :2] @ rng.normal(size=(2, P)), y
    cases["both rank 1"] = x[:, :1] * np.arange(1, P + 1), y[:, :1] * np.arange(1, 6)
    cases["no information"] = np.full_like(x, 3.0), y
    cases["neither has any"] = np.zeros_like(x), np.ones_like(y)
    cases["tiny"] = x * 1e-30, y
    cases["huge"] = x * 1e30, y
    cases["units of all scales"] = x * np.logspace(-12, 12, P), y
    cases["identical"] = x, x[:, :Q]
    cases["one example differs"] = (np.arange(N)[:, None] == 7) * np.ones(P), y
    cases["not a number"] = np.where(np.arange(P) == 1, np.nan, x), y
    cases["infinite"] = x, np.where(np.arange(N)[:, None] == 3, np.inf, y)
    return cases


def wide():
    x, y = related(7, 5, 9, 8)
    cases = {"more units than examples": (x, y)}
    cases["rank 1 of many units"] = x[:, :1] * np.arange(1, 10), y[:, :1] + 0 * y
    cases["mostly dead"] = x * (np.arange(9) < 2), y * (np.arange(8) < 2)
    cases["copies"] = x[:, [0, 1, 2] * 3], y[:, [0] * 8]
    cases["constant"] = np.full_like(x, 0.3), y
    cases["wide, not a number"] = np.where(np.arange(9) == 1, np.nan, x), y
    return cases


CASES = {
    kind: {k: [np.float32(layer) for layer in pair] for k, pair in cases.items()}
    for kind, cases in (("tall", tall()), ("wide", wide()))
}


@functools.cache
def batched(kind):
    """Values [case, measure] and derivatives of all, by one vmapped jitted program."""
    x, y = (np.stack(part) for part in zip(*CASES[kind].values(), strict=True))
    both = jax.jit(jax.vmap(with_derivatives(means)))
    slopes, values = jax.device_get(both(x, y))
    return dict(zip(CASES[kind], values, strict=True)), slopes


@pytest.mark.parametrize("kind", CASES)
def test_values_and_derivatives_are_finite(kind):
    values, slopes = batched(kind)
    for case, found in values.items():
        for name, value in zip(MEASURES, found, strict=True):
            if "number" in case or case == "infinite":
                assert np.isnan(value), (case, name, value)
            else:
                signed = ("debiased", "rsa", "pearson", "euclidean")
                low = -1 if name in signed else 0
                assert low <= value <= 1 + 1e-6, (case, name, value)
    for slope in slopes:
        assert np.isfinite(slope).all()


@pytest.mark.parametrize("case", ["good", "duplicate units", "huge"])
def test_the_same_without_jit_and_vmap(case):
    eager = jnp.mean(similarity.cca(*CASES["tall"][case]))
    np.testing.assert_allclose(eager, batched("tall")[0][case][0], atol=1e-5)


def test_the_documented_values():
    values = batched("tall")[0]
    cca = {case: found[0] for case, found in values.items()}
    x, y = (layer.astype(np.float64) for layer in CASES["tall"]["good"])
    # What is left of the units, over min(p, q) = 5.
    left = {
        "a dead unit": (np.delete(x, 2, 1), y),
        "a constant unit": (np.delete(x, 2, 1), y),
        "duplicate units": (x[:, :3], y),
        "rank 2": (x[:, :2], y),
        "rank 2 under a large mean": (x[:, :2], y),
        "both rank 1": (x[:, :1], y[:, :1]),
        "tiny": (x, y),
        "huge": (x, y),
        "units of all scales": (x, y),
    }
    for case, pair in left.items():
        expected = oracles.cca(*pair).sum() / Q
        # Under the large mean, float32 holds 4 digits of the deviations.
        atol = 1e-3 if "mean" in case else 1e-5
        np.testing.assert_allclose(cca[case], expected, atol=atol, err_msg=case)
    assert cca["identical"] == pytest.approx(1, abs=1e-5)
    for case in ("no information", "neither has any"):
        assert not values[case].any(), case


def test_the_documented_values_of_many_units():
    cca = {case: found[0] for case, found in batched("wide")[0].items()}
    x, y = (layer.astype(np.float64) for layer in CASES["wide"][next(iter(cca))])
    # 5 examples span 4 dimensions; the mean is over 8 units.
    assert cca["more units than examples"] == pytest.approx(4 / 8, abs=1e-5)
    few = oracles.cca(x[:, :2], y[:, :2]).sum() / 8
    assert cca["mostly dead"] == pytest.approx(few, abs=1e-5)
    one = abs(np.corrcoef(x[:, 0], y[:, 0])[0, 1]) / 8
    assert cca["rank 1 of many units"] == pytest.approx(one, abs=1e-5)
    assert cca["constant"] == 0


def test_absent_directions_get_no_derivative():
    slope = batched("tall")[1][0][:, 0]
    of = dict(zip(CASES["tall"], slope, strict=True))
    assert not of["a dead unit"][:, 2].any()
    assert not of["no information"].any()
    assert of["good"].any()


def test_maps():
    """Degenerate maps, their derivatives and, of good maps, finite differences."""
    rng = np.random.default_rng(8)
    shared = rng.normal(size=(30, 3, 3, 2))
    x = shared + 0.7 * rng.normal(size=shared.shape)
    y = shared[:, :, :2] @ rng.normal(size=(2, 2)) + rng.normal(size=(30, 3, 2, 2))
    flat = np.broadcast_to(x[:, :1, :1], x.shape)
    move = rng.normal(size=x.shape)
    cases = {
        "good": x,
        "ahead": x + 1e-6 * move,
        "behind": x - 1e-6 * move,
        "a dead channel": x * np.array([1.0, 0.0]),
        "twice one channel": x[..., [0, 0]],
        "the same at all positions": flat,
        "the same for all examples": 0 * x + x[0],
        "zero": 0 * x,
        "huge": 1e30 * x,
        "not a number": np.where(np.arange(2) == 1, np.nan, x),
    }
    both = jax.jit(jax.vmap(jax.value_and_grad(similarity.dft_cca), (0, None)))
    with enable_x64(True):
        values, slopes = jax.device_get(both(np.stack(list(cases.values())), y))
    assert np.isfinite(slopes).all()
    value = dict(zip(cases, values, strict=True))
    # Curvature of 1e-12 and rounding of 1e-10.
    slope = (value["ahead"] - value["behind"]) / 2e-6
    np.testing.assert_allclose((slopes[0] * move).sum(), slope, atol=1e-8)
    expected = oracles.over_frequencies(oracles.mean_cca, x, y)
    for case in ("good", "huge"):
        np.testing.assert_allclose(value[case], expected, atol=1e-10, err_msg=case)
    one = oracles.over_frequencies(lambda a, b: oracles.cca(a[:, :1], b).sum(), x, y)
    for case in ("a dead channel", "twice one channel"):
        np.testing.assert_allclose(value[case], one / 2, atol=1e-10, err_msg=case)
    # Such maps hold nothing but frequency 0; the rest of the spectrum is rounding.
    zeroth = oracles.mean_cca(flat[:, 0, 0], y.mean((1, 2))) / 6
    np.testing.assert_allclose(value["the same at all positions"], zeroth, atol=1e-10)
    assert value["the same for all examples"] == 0
    assert value["zero"] == 0
    assert np.isnan(value["not a number"])


def test_what_pooling_cancels_counts_as_constant():
    x = np.random.default_rng(9).normal(size=(30, 5, 7, 3)).astype(np.float32)
    # Instance norm: the mean over positions is 0 up to rounding.
    normed = x - x.mean((1, 2), keepdims=True)
    for measure in ("cka", "cca"):
        value = similarity.matrix({"in": normed}, {"raw": x}, measure, "mean")
        assert value == 0, measure


@pytest.mark.parametrize(("n", "p", "q"), [(2, 3, 2), (5, 9, 4)])
def test_more_units_than_examples_saturate_and_say_so(n, p, q):
    x, y = (np.random.default_rng(7).normal(size=(n, k)) for k in (p, q))
    message = f"{n} examples are too few for x .{min(p, n - 1)} directions"
    with pytest.warns(similarity.SaturationWarning, match=message):
        rho = similarity.cca(x, y)
    kept = min(p, q, n - 1)
    np.testing.assert_allclose(rho[:kept], 1, atol=1e-5)
    np.testing.assert_array_equal(rho[kept:], 0)
    assert rho.shape == (min(p, q),)


def test_low_rank_does_not_saturate_however_wide():
    rng = np.random.default_rng(8)
    x, y = (rng.normal(size=(12, 1)) * rng.normal(size=16) for _ in range(2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rho = similarity.cca(x, y)
    expected = abs(np.corrcoef(x[:, 0], y[:, 0])[0, 1])
    np.testing.assert_allclose(rho[0], expected, atol=1e-5)
    assert not rho[1:].any()
