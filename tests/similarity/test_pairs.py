"""Two layers: values, options, messages."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_heuristics import similarity
from tests.modes import enable_x64
from tests.similarity import oracles
from tests.similarity.table import MEASURES, all_measures, related


def layers(n, p, q):
    if max(p, q) < n:
        return related(1, n, p, q)
    # More units than examples: of low rank, or every value would be 1.
    x, y = related(1, n, 4, 3)
    rng = np.random.default_rng(2)
    return x @ rng.normal(size=(4, p)), y @ rng.normal(size=(3, q))


@pytest.mark.parametrize(("n", "p", "q"), [(200, 12, 17), (80, 9, 1), (20, 33, 21)])
def test_every_measure_agrees_with_float64_numpy(n, p, q):
    x, y = layers(n, p, q)
    with enable_x64(True):
        # float64 keeps 15 digits and float32 7; condition numbers are about 10.
        for dtype, atol in ((np.float64, 1e-10), (np.float32, 1e-4)):
            values = all_measures(x.astype(dtype), y.astype(dtype))
            for name, (_, oracle) in MEASURES.items():
                if name == "google_cca" and max(p, q) >= n:
                    # Inverting singular covariances costs its steps 6 digits.
                    continue
                if name in ("rsa", "pearson") and min(p, q) == 1:
                    # The correlation of single units is not defined.
                    assert abs(values[name]) < 1e-6
                    continue
                assert values[name].dtype == dtype, name
                np.testing.assert_allclose(
                    values[name], oracle(x, y), atol=atol, err_msg=name
                )


def test_pwcca_weighs_by_its_first_argument():
    x, y = related(3, 100, 6, 3)
    forth, back = similarity.pwcca(x, y), similarity.pwcca(y, x)
    np.testing.assert_allclose(forth, oracles.pwcca(x, y), atol=1e-5)
    np.testing.assert_allclose(back, oracles.pwcca(y, x), atol=1e-5)
    assert abs(forth - back) > 0.01


def test_svcca_keeps_the_share_or_the_number_asked_for():
    x, y = related(2, 60, 5, 3)
    rho = oracles.cca(x, y)
    share = similarity.svcca(x, y, 0.7)
    np.testing.assert_allclose(share, oracles.svcca(x, y, 0.7), atol=1e-4)
    first = [layer @ np.linalg.svd(layer - layer.mean(0))[2][:2].T for layer in (x, y)]
    number = similarity.svcca(x, y, directions=2)
    np.testing.assert_allclose(number, oracles.cca(*first).mean(), atol=1e-4)
    # All of the variance is plain CCA.
    everything = similarity.svcca(x, y, 1.0)
    np.testing.assert_allclose(everything, rho.mean(), atol=1e-4)


@pytest.mark.parametrize("epsilon", [0.0, 1e-6, 1e-2])
def test_google_cca_leaves_small_units_out_and_shrinks_weak_directions(epsilon):
    x, y = related(4, 60, 5, 3)
    # A dead unit, one under the larger epsilons, one above.
    x = x * np.array([1, 0, 3e-4, 0.2, 1])
    with enable_x64(True):
        value = float(similarity.google_cca(x, y, epsilon=epsilon))
    expected = oracles.google_mean(x, y, epsilon)
    np.testing.assert_allclose(value, expected, atol=1e-10)
    rho = oracles.cca(x, y)
    if epsilon:
        assert abs(value - rho[:3].mean()) > 1e-3


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
CALLS = {name: ours for name, (ours, _) in MEASURES.items()}
CALLS["dft_cca"] = similarity.dft_cca


@pytest.mark.parametrize("measure", CALLS)
@pytest.mark.parametrize(
    ("x", "message"),
    [
        (GOOD[:30], "y has 40 examples and x 30"),
        (GOOD[:1], "x has 1 example"),
        (np.arange(120).reshape(40, 3), "x holds int64.*astype"),
        (np.isfinite(GOOD), "x holds bool"),
        (GOOD[:, 0], r"x has shape \(40,\)"),
        (GOOD[:, :0], "nothing to compare"),
    ],
)
def test_bad_input_is_named_before_any_work(measure, x, message):
    with pytest.raises(ValueError, match=message):
        CALLS[measure](x, GOOD)


def test_known_layers_inside_a_traced_function():
    x, y = (jnp.asarray(layer, jnp.float32) for layer in related(12, 60, 5, 3))
    cka = similarity.cka(x, y)
    found = jax.jit(lambda scale: scale * similarity.cka(x, y))(2.0)
    np.testing.assert_allclose(found, 2 * cka, rtol=1e-6)
    found = jax.jit(lambda: similarity.matrix({"": x}, {"": y}, "cka"))()
    np.testing.assert_allclose(found, cka[None, None], rtol=1e-6)
    acc = similarity.Accumulator.init(x, y)
    found = jax.jit(lambda: acc.update(x, y).result("cka"))()
    np.testing.assert_allclose(found, cka, rtol=1e-6)
    acc = acc.update(x, y)
    found = jax.jit(lambda: acc.result("cka"))()
    np.testing.assert_allclose(found, cka, rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("measure", ["cca", "debiased", "dft_cca"])
def test_values_that_are_not_finite_are_named(measure, bad):
    x = np.where(np.arange(3) == 1, bad, GOOD)
    with pytest.raises(ValueError, match=r"^x: NaN or infinite"):
        CALLS[measure](x, GOOD)
    with pytest.raises(ValueError, match=r"^y: NaN or infinite"):
        CALLS[measure](GOOD, x)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: similarity.cca(GOOD[:, None, None], GOOD), "take dft_cca, or matrix"),
        (lambda: similarity.svcca(GOOD, GOOD, 0.0), "variance must lie in"),
        (lambda: similarity.svcca(GOOD, GOOD, 20.0), "directions="),
        (lambda: similarity.svcca(GOOD, GOOD, directions=0), "at least 1"),
        (lambda: similarity.google_cca(GOOD, GOOD, epsilon=-1.0), "at least 0"),
        (lambda: similarity.cka(GOOD[:3], GOOD[:3], debiased=True), "at least 4"),
        (lambda: similarity.knn(GOOD, GOOD, 40), "k=40 and 40 examples.* at most k=39"),
        (lambda: similarity.knn(GOOD, GOOD, 0), "k must be at least 1, got 0"),
        (lambda: similarity.knn(GOOD, GOOD, distance="l1"), "alid: cosine, euclidean"),
        (lambda: similarity.rsa(GOOD, GOOD, distance="cosine"), "alid: correlation"),
        (lambda: similarity.rsa(GOOD, GOOD, correlation="t"), "alid: spearman"),
        (
            lambda: similarity.Accumulator.init(GOOD, GOOD).result("knn"),
            "knn compares all examples.*take matrix",
        ),
        (
            lambda: similarity.stream_matrix(lambda x: {"x": x}, None, GOOD, "rsa"),
            "rsa compares all examples.*take matrix",
        ),
        (lambda: similarity.noise_floor(40, 3, 3, measure="procrustes"), "shuffled"),
        (lambda: similarity.matrix({"a": GOOD}, measure="dft_cca"), "conv='dft'"),
    ],
)
def test_bad_options_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
