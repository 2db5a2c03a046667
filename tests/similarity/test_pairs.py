"""Two layers: values, degenerate input, derivatives, messages."""

import functools
import re
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_heuristics import similarity
from kd_heuristics.similarity.measure import Measure
from kd_heuristics.similarity.measures import compare, prepare_moments
from tests.similarity import oracles

enable_x64 = (
    jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64
)

MEASURES = {
    "cca": (similarity.cca, oracles.cca),
    "svcca": (similarity.svcca, oracles.svcca),
    "pwcca": (similarity.pwcca, oracles.pwcca),
    "cka": (similarity.cka, oracles.cka),
    "debiased": (
        functools.partial(similarity.cka, debiased=True),
        oracles.debiased_cka,
    ),
    "google_cca": (similarity.google_cca, oracles.google_mean),
}


@jax.jit
def all_measures(x, y):
    return {name: ours(x, y) for name, (ours, _) in MEASURES.items()}


@jax.jit
def means(x, y):
    """The measures as one vector, to be differentiated together."""
    values = all_measures(x, y)
    return jnp.stack([jnp.mean(values[name]) for name in MEASURES])


CCA = Measure(name="cca")


def related(seed, n, p, q, **options):
    return oracles.related(np.random.default_rng(seed), n, p, q, **options)


def test_every_measure_agrees_with_float64_numpy():
    x, y = related(1, 200, 12, 17)
    values = all_measures(x.astype(np.float32), y.astype(np.float32))
    for name, (_, oracle) in MEASURES.items():
        # float32 holds 7 digits; the data's condition number is about 10.
        np.testing.assert_allclose(values[name], oracle(x, y), atol=1e-4, err_msg=name)
        assert values[name].dtype == jnp.float32


def test_svcca_keeps_the_share_or_the_number_asked_for():
    x, y = related(2, 60, 5, 3)
    rho = oracles.cca(x, y)
    share = similarity.svcca(x, y, 0.7)
    np.testing.assert_allclose(share, oracles.svcca(x, y, 0.7), atol=1e-4)
    first = [layer @ np.linalg.svd(layer - layer.mean(0))[2][:2].T for layer in (x, y)]
    number = similarity.svcca(x, y, directions=2)
    np.testing.assert_allclose(number, oracles.cca(*first).mean(), atol=1e-4)
    # All of the variance is plain CCA.
    np.testing.assert_allclose(similarity.cca(x, y), rho, atol=1e-4)
    everything = similarity.svcca(x, y, 1.0)
    np.testing.assert_allclose(everything, rho.mean(), atol=1e-4)


def test_a_bad_condition_number_costs_no_more_than_it_must():
    # Condition number 1,000 after scaling: a plain float32 Gram matrix would lose the
    # weakest direction among rounding errors of 1e-7 * 1e6.
    rng = np.random.default_rng(4)
    mix = np.linalg.qr(rng.normal(size=(8, 8)))[0] * np.logspace(0, -3, 8)
    latent = rng.normal(size=(400, 8))
    x = (latent @ mix @ np.linalg.qr(rng.normal(size=(8, 8)))[0]).astype(np.float32)
    y = (latent[:, ::-1] + rng.normal(size=(400, 8))).astype(np.float32)
    # Input rounding alone moves the weakest direction by 1e-7 * 1e3.
    expected = oracles.cca(x.astype(np.float64), y.astype(np.float64))
    np.testing.assert_allclose(similarity.cca(x, y), expected, atol=1e-3)


# Degenerate input: all of one shape, so that each measure compiles once.

N, P, Q = 40, 6, 5


def degenerate_cases():
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
    return {k: [np.float32(layer) for layer in pair] for k, pair in cases.items()}


DEGENERATE = degenerate_cases()


@functools.cache
def batched():
    """Values [case, measure] and derivatives of all, by one vmapped jitted program."""
    x, y = (np.stack(part) for part in zip(*DEGENERATE.values(), strict=True))

    def both(x, y):
        return means(x, y), jax.jacrev(means, (0, 1))(x, y)

    values, slopes = jax.device_get(jax.jit(jax.vmap(both))(x, y))
    return dict(zip(DEGENERATE, values, strict=True)), slopes


def test_degenerate_input_gives_finite_values_and_derivatives():
    values, slopes = batched()
    for case, found in values.items():
        for name, value in zip(MEASURES, found, strict=True):
            low = -1 if name == "debiased" else 0
            assert low <= value <= 1 + 1e-6, (case, name, value)
        # The same without vmap and jit.
        eager = jnp.mean(similarity.cca(*DEGENERATE[case]))
        np.testing.assert_allclose(eager, found[0], atol=1e-5, err_msg=case)
    for slope in slopes:
        assert np.isfinite(slope).all()


def test_degenerate_input_gives_the_documented_values():
    values = batched()[0]
    cca = {case: found[0] for case, found in values.items()}
    x, y = (layer.astype(np.float64) for layer in DEGENERATE["good"])
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


def test_absent_directions_get_no_derivative():
    slope = batched()[1][0][:, 0]
    of = dict(zip(DEGENERATE, slope, strict=True))
    assert not of["a dead unit"][:, 2].any()
    assert not of["no information"].any()
    assert of["good"].any()


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


def test_float64_values_and_derivatives():
    rng = np.random.default_rng(9)
    x, y = related(10, 60, 5, 3)
    dx, dy = rng.normal(size=x.shape), rng.normal(size=y.shape)

    @jax.jit
    def everything(x, y):
        return all_measures(x, y), means(x, y), jax.jacrev(means, (0, 1))(x, y)

    with enable_x64(True):
        values, _, slopes = jax.device_get(everything(x, y))
        ends = [
            np.asarray(everything(x + step * dx, y + step * dy)[1])
            for step in (1e-6, -1e-6)
        ]
    for name, (_, oracle) in MEASURES.items():
        np.testing.assert_allclose(values[name], oracle(x, y), atol=1e-10, err_msg=name)
        assert values[name].dtype == np.float64
    along = [np.tensordot(g, d, 2) for g, d in zip(slopes, (dx, dy), strict=True)]
    # Central differences: 1e-12 of curvature and 1e-10 of rounding.
    np.testing.assert_allclose(sum(along), (ends[0] - ends[1]) / 2e-6, atol=1e-8)


def test_derivatives_are_right_at_repeated_correlations_and_low_rank():
    rng = np.random.default_rng(11)
    q = rng.normal(size=(50, 8))
    q, _ = np.linalg.qr(q - q.mean(0))
    # Correlations .6, .6, .6, .2: a group of three, with every basis of it equal.
    rho = np.array([0.6, 0.6, 0.6, 0.2])
    x = q[:, :4] @ rng.normal(size=(4, 4))
    y = (q[:, :4] * rho + q[:, 4:] * np.sqrt(1 - rho**2)) @ rng.normal(size=(4, 4))
    # A fifth unit of x adds no direction, wherever the others move.
    extend = np.concatenate([np.eye(4), rng.normal(size=(4, 1))], axis=1)
    dx, dy = rng.normal(size=x.shape), rng.normal(size=y.shape)

    def by_moments(x, y):
        x, y = (z - jnp.mean(z, 0, keepdims=True) for z in (x, y))
        a, b = (
            prepare_moments(CCA, z.T @ z, jnp.zeros(z.shape[1]), jnp.array(50.0))
            for z in (x, y)
        )
        return 4 * compare(CCA, a.factor.T @ (x.T @ y) @ b.factor, a, b)

    @jax.jit
    def both(x, y):
        x = x @ extend
        return jnp.stack([jnp.sum(similarity.cca(x, y)), by_moments(x, y)])

    with enable_x64(True):
        np.testing.assert_allclose(both(x, y), rho.sum(), atol=1e-10)
        slopes = jax.device_get(jax.jit(jax.jacrev(both, (0, 1)))(x, y))
        ends = [
            np.asarray(both(x + step * dx, y + step * dy)) for step in (1e-5, -1e-5)
        ]
    along = [np.tensordot(g, d, 2) for g, d in zip(slopes, (dx, dy), strict=True)]
    # The sum is smooth although the single correlations are not. Curvature leaves
    # 1e-7 in the differences.
    np.testing.assert_allclose(sum(along), (ends[0] - ends[1]) / 2e-5, atol=1e-6)


def test_no_batch_of_decompositions_reaches_the_cpu_thread_pool():
    x = jnp.zeros((3, 300, 40))
    slope = jax.vmap(jax.grad(similarity.pwcca))
    text = jax.jit(slope).lower(x, x).compile().as_text()
    calls = re.findall(r"= \(?\w+\[([\d,]*)\].*custom_call_target=\"lapack", text)
    assert len(calls) > 2
    # One matrix at a time: two batches at once can block all threads for ever.
    assert all(len(shape.split(",")) == 2 for shape in calls), calls


def test_half_precision_is_computed_as_float32():
    x, y = related(12, 60, 5, 3)
    half = similarity.cca(jnp.asarray(x, jnp.bfloat16), jnp.asarray(y, jnp.bfloat16))
    assert half.dtype == jnp.float32
    # bfloat16 holds 3 digits of the input.
    np.testing.assert_allclose(half, oracles.cca(x, y), atol=2e-2)


GOOD = np.random.default_rng(13).normal(size=(40, 3))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (GOOD[:30], "y has 40 examples and x 30"),
        (GOOD[:1], "x has 1 example"),
        (np.arange(120).reshape(40, 3), "x holds int64.*astype"),
        (np.isfinite(GOOD), "x holds bool"),
        (np.where(np.arange(3) == 1, np.nan, GOOD), "^x: NaN or infinite"),
        (np.where(np.arange(3) == 1, np.inf, GOOD), "^x: NaN or infinite"),
        (GOOD[:, 0], r"x has shape \(40,\)"),
        (GOOD[:, None, None], r"take dft_cca, or matrix"),
        (GOOD[:, :0], "nothing to compare"),
    ],
)
def test_bad_input_is_named(x, message):
    with pytest.raises(ValueError, match=message):
        similarity.cca(x, GOOD)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: similarity.svcca(GOOD, GOOD, 0.0), "variance must lie in"),
        (lambda: similarity.svcca(GOOD, GOOD, 20.0), "directions="),
        (lambda: similarity.svcca(GOOD, GOOD, directions=0), "at least 1"),
        (lambda: similarity.google_cca(GOOD, GOOD, epsilon=-1.0), "at least 0"),
        (lambda: similarity.cka(GOOD[:3], GOOD[:3], debiased=True), "at least 4"),
    ],
)
def test_bad_options_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_traced_code_gives_nan_for_nan_and_only_there():
    x, y = DEGENERATE["good"]
    bad = x.copy()
    bad[3, 1] = np.nan
    infinite = x.copy()
    infinite[3, 1] = np.inf
    values = jax.vmap(similarity.cca)(np.stack([x, bad, infinite]), np.stack([y] * 3))
    assert np.isfinite(values[0]).all()
    assert np.isnan(values[1:]).all()
