"""Permutation tests against nulls computed one by one, and their error rates."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_heuristics import similarity
from kd_heuristics.similarity.layers import compare
from kd_heuristics.similarity.measure import NAMES, Measure
from tests.similarity.table import related

KEY = jax.random.key(3)
RNG = np.random.default_rng(0)


def by_hand(x, y, measure, count, conv="dft", **options):
    """Values of the permutations that the library draws, each from `matrix`."""
    null = []
    for key in jax.random.split(KEY, count):
        order = np.asarray(jax.random.permutation(key, len(next(iter(y.values())))))
        mixed = {name: layer[order] for name, layer in y.items()}
        null.append(similarity.matrix(x, mixed, measure, conv, **options))
    return np.stack(null).astype(np.float64)


@pytest.mark.parametrize("measure", NAMES)
def test_every_measure_against_permutations_one_by_one(measure):
    x, y = (np.float32(layer) for layer in related(1, 40, 6, 5, noise=3.0))
    found = similarity.permutation_test(x, y, measure, 19, key=KEY)
    null = by_hand({"x": x}, {"y": y}, measure, 19)[:, 0, 0]
    value = float(similarity.matrix({"x": x}, {"y": y}, measure)[0, 0])
    np.testing.assert_allclose(found.value, value, atol=1e-5)
    mean = null.mean()
    np.testing.assert_allclose(found[1], (value - mean) / (1 - mean), atol=1e-4)
    # Of neighbours many values are equal up to rounding.
    expected = (1 + np.sum(null >= value - 1e-6)) / 20
    np.testing.assert_allclose(found.p_value, expected, atol=1e-6)


@pytest.mark.parametrize("measure", ["cka", "debiased_cka"])
def test_cka_of_wide_layers_by_matrices_of_the_examples(measure):
    x, y = (np.float32(layer) for layer in related(1, 24, 70, 60, noise=3.0))
    layers = {"x": x, "maps": np.float32(RNG.normal(size=(24, 2, 2, 40)))}, {"y": y}
    for pair in ((x, y), layers):
        several = pair is layers
        value, calibrated, _ = similarity.permutation_test(
            *pair, measure, 19, key=KEY, conv="mean"
        )
        named = layers if several else ({"x": x}, {"y": y})
        expected = similarity.matrix(*named, measure, "mean")
        null = by_hand(*named, measure, 19, "mean").mean(0)
        pick = () if several else (0, 0)
        np.testing.assert_allclose(value, expected[pick], atol=1e-5)
        expected = (expected - null) / (1 - null)
        np.testing.assert_allclose(calibrated, expected[pick], atol=1e-4)
    for conv in ("dft", "positions", "mean"):
        kind = Measure(name=measure, of_examples=True)
        maps = {"a": RNG.normal(size=(9, 2, 3, 2)), "b": RNG.normal(size=(9, 2, 2, 3))}
        found = compare(kind, conv, maps, None)
        expected = similarity.matrix(maps, None, measure, conv)
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("conv", ["dft", "positions", "mean"])
@pytest.mark.parametrize("measure", ["cka", "debiased_cka", "pwcca", "knn"])
def test_maps_permute_examples_and_correct_for_pairs(measure, conv):
    maps = RNG.normal(size=(24, 2, 3, 2)).astype(np.float32)
    x = {"maps": maps, "units": RNG.normal(size=(24, 3)).astype(np.float32)}
    y = {"small": maps[:, :, :2] + RNG.normal(size=(24, 2, 2, 2)).astype(np.float32)}
    value, calibrated, p = similarity.permutation_test(
        x, y, measure, 19, key=KEY, conv=conv
    )
    null = by_hand(x, y, measure, 19, conv)
    expected = np.asarray(similarity.matrix(x, y, measure, conv), np.float64)
    np.testing.assert_allclose(value, expected, atol=1e-5)
    mean = null.mean(0)
    np.testing.assert_allclose(calibrated, (expected - mean) / (1 - mean), atol=1e-4)
    every = np.concatenate([expected[None], null])
    score = (every - every.mean(0)) / every.std(0)
    highest = score.max((1, 2))
    for index in np.ndindex(p.shape):
        reached = np.mean(highest >= score[0][index] - 1e-4)
        np.testing.assert_allclose(p[index], reached, atol=1e-6)


def test_identical_layers_and_constant_ones():
    x = RNG.normal(size=(40, 30)).astype(np.float32)
    for measure in ("cka", "knn", "procrustes"):
        value, calibrated, p = similarity.permutation_test(x, x, measure, key=KEY)
        np.testing.assert_allclose([value, calibrated], 1, atol=1e-5)
        np.testing.assert_allclose(p, 1 / 201, atol=1e-6)
        nothing = similarity.permutation_test(x, 0 * x, measure, key=KEY)
        np.testing.assert_array_equal(nothing, [0, 0, 1])


def test_saturated_correlations_are_calibrated_to_nothing():
    x, y = RNG.normal(size=(2, 20, 30)).astype(np.float32)
    test = partial(similarity.permutation_test, x, y, "svcca", key=KEY)
    value, calibrated, p = test(directions=19)
    assert value > 0.99
    assert calibrated == 0
    assert p > 0.05


@pytest.mark.parametrize("measure", ["cka", "procrustes"])
def test_false_alarms_are_as_many_as_the_level_says(measure):
    @jax.jit
    @jax.vmap
    def draw(key):
        x, y = jax.random.normal(key, (2, 24, 5))
        return similarity.permutation_test(x, y, measure, 39, key=key).p_value

    p = np.asarray(draw(jax.random.split(KEY, 400)))
    # Uniform on 1/40, ..., 1; 20 of 400 with a standard deviation of 4.4.
    assert 7 <= np.sum(p <= 0.0501) <= 33
    assert abs(p.mean() - 0.5125) < 4 * np.sqrt(1 / 12 / 400)


def test_a_map_of_noise_gives_few_false_alarms():
    @jax.jit
    @jax.vmap
    def draw(key):
        layers = jax.random.normal(key, (6, 24, 3))
        a, b = (
            {str(i): layer for i, layer in enumerate(x)}
            for x in (layers[:3], layers[3:])
        )
        return similarity.permutation_test(a, b, "cka", 39, key=key).p_value

    p = np.asarray(draw(jax.random.split(KEY, 300)))
    # Any of the nine pairs: 15 of 300 with a standard deviation of 3.8.
    assert 4 <= np.sum(p.min((1, 2)) <= 0.0501) <= 27
    # Not corrected, it would be a third of the maps.


def test_what_is_traced_and_not_finite():
    x = RNG.normal(size=(70, 64)).astype(np.float32)
    bad = np.where(np.arange(64) == 60, np.nan, x)
    run = jax.jit(lambda x, y: similarity.permutation_test(x, y, key=KEY))
    assert np.isnan(run(bad, x)).all()
    both = jax.jit(lambda a, b: similarity.permutation_test(a, b, key=KEY))
    p = both({"good": x, "bad": bad}, {"y": x}).p_value
    assert np.isnan(p[0, 0])
    np.testing.assert_allclose(p[1, 0], 1 / 201, atol=1e-6)
    with pytest.raises(ValueError, match=r"^x: NaN or infinite"):
        similarity.permutation_test(bad, x, key=KEY)


GOOD = RNG.normal(size=(40, 3))


@pytest.mark.parametrize(
    ("error", "change", "message"),
    [
        (ValueError, {"num_permutations": 18}, "num_permutations=18 .*at least 19"),
        (ValueError, {"num_permutations": 98, "alpha": 0.01}, "at least 99"),
        (ValueError, {"alpha": 1.5}, "alpha must lie between"),
        (ValueError, {"measure": "xcca"}, "unknown measure 'xcca'"),
        (ValueError, {"measure": "knn", "k": 40}, "at most k=39"),
        (ValueError, {"conv": "fft"}, "unknown treatment"),
        (ValueError, {"y": GOOD[:30]}, "y has 30 examples and x 40"),
        (ValueError, {"x": {}, "y": {}}, "x holds no layer"),
        (TypeError, {"x": {"h": GOOD}}, "both be arrays or both dictionaries"),
        (TypeError, {"x": {"h": (GOOD, GOOD)}, "y": None}, r"x\['h'\] is a tuple of 2"),
    ],
)
def test_bad_input_is_named_before_any_work(error, change, message):
    options = {"x": GOOD, "y": GOOD, "key": KEY} | change
    with pytest.raises(error, match=message):
        similarity.permutation_test(**options)


def test_a_network_against_itself():
    layers = {"a": GOOD, "b": GOOD + RNG.normal(size=(40, 3))}
    value, _, p = similarity.permutation_test(layers, None, "cka", key=KEY)
    np.testing.assert_allclose(value, similarity.matrix(layers, None, "cka"), atol=1e-5)
    assert (p < 0.05).all()
    assert jnp.shape(p) == (2, 2)
