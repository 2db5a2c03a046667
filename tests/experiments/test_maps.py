"""Maps between two networks of a study: values, the floor, divergence, few bytes."""

import types
import typing

import jax.numpy as jnp
import numpy as np
import pytest

from experiments import reproduce
from experiments.common import maps, measures, merging
from kd_heuristics import runs, similarity
from kd_heuristics.runs import descriptions
from kd_heuristics.runtime import compilation
from kd_heuristics.similarity.measure import Measure

IMAGES = np.random.default_rng(0).integers(0, 256, (60, 4, 4, 3), np.uint8)
MEASURE = "cka"


def features(params, batch_stats, images):
    x = images.astype(jnp.float32) / 255 - batch_stats["mean"]
    conv = jnp.tanh(x @ params["conv"])
    return {"00_conv": conv, "01_fc": jnp.mean(conv, (1, 2)) @ params["fc"]}


CLASSIFIER = types.SimpleNamespace(features=features)


def last(params, batch_stats, images):
    return {"01_fc": features(params, batch_stats, images)["01_fc"]}


def variables(seed):
    rng = np.random.default_rng(seed)
    params = {"conv": rng.normal(size=(3, 4)), "fc": rng.normal(size=(4, 3))}
    params = {name: jnp.float32(value) for name, value in params.items()}
    return {"params": params, "batch_stats": {"mean": jnp.float32(0.5)}}


NETWORKS = variables(1), variables(2)


def between(a, b, **options):
    images = jnp.asarray(IMAGES)
    return maps.between(CLASSIFIER, a, b, images, MEASURE, batch_size=16, **options)


@pytest.fixture(scope="module")
def found():
    with compilation.counted() as count:
        value = between(variables(1), variables(2))
    assert count.networks == {"_streamed": 1}
    return value


def test_a_map_is_that_of_the_features(found):
    acts = [features(net["params"], net["batch_stats"], IMAGES) for net in NETWORKS]
    np.testing.assert_allclose(found, similarity.matrix(*acts, MEASURE), atol=1e-5)
    assert maps.layers(CLASSIFIER, variables(1), IMAGES) == list(acts[0])


def test_layers_with_kernels_have_the_same_similarities(found):
    def more(params, batch_stats, images):
        own = features(params, batch_stats, images)
        return own | {"00_relu": jnp.maximum(own["00_conv"], 0)}

    wide = types.SimpleNamespace(features=more)
    config = types.SimpleNamespace(map_layers="kernels")
    shown = maps.shown(config, types.SimpleNamespace(classifier=wide))
    assert maps.layers(shown, variables(1), IMAGES) == ["00_conv", "01_fc"]
    part = maps.between(shown, *NETWORKS, jnp.asarray(IMAGES), MEASURE, batch_size=16)
    np.testing.assert_allclose(part, found, atol=1e-5)


def test_shuffling_leaves_the_noise_floor():
    itself = between(variables(1), variables(1))
    floor = between(variables(1), variables(1), shuffle=True)
    np.testing.assert_allclose(np.diagonal(itself), 1, atol=1e-5)
    assert np.diagonal(floor).max() < 0.3


def test_a_diverged_network_has_no_similarities(found):
    bad = variables(2)
    bad["params"]["fc"] = bad["params"]["fc"].at[0, 0].set(jnp.inf)
    value = between(variables(1), bad)
    assert value.shape == found.shape
    assert np.isnan(value).all()


def test_nothing_compiles_anew_for_other_networks(found):
    with compilation.counted() as count:
        between(variables(3), variables(4), shuffle=True)
    assert not count.networks


def test_other_measures_come_from_the_same_pass_and_are_calibrated(found):
    with compilation.counted() as count:
        several = between(variables(1), variables(2), beside=maps.BESIDE)
    assert not count.networks.get("_streamed")
    np.testing.assert_array_equal(several[MEASURE], found)
    named = maps.named("map", several, MEASURE)
    assert set(named) == {"map", *(f"map/{m}" for m in maps.BESIDE if m != MEASURE)}
    floor = between(variables(1), variables(2), beside=maps.BESIDE, shuffle=True)
    arrays = named | maps.named("floor", floor, MEASURE)
    arrays |= maps.all_calibrated(arrays, {"map": "floor"})
    # Of stacked seeds, one floor serves all.
    for kind in ("", "/cca"):
        value, low = arrays[f"map{kind}"], arrays[f"floor{kind}"]
        expected = (value - low) / (1 - low)
        np.testing.assert_allclose(arrays[f"map{kind}/calibrated"], expected, atol=1e-5)


def test_debiased_cka_of_maps_that_the_studies_can_choose(found):
    several = between(variables(1), variables(2), beside=("debiased_cka",))
    acts = [features(net["params"], net["batch_stats"], IMAGES) for net in NETWORKS]
    expected = similarity.matrix(*acts, "debiased_cka")
    np.testing.assert_allclose(several["debiased_cka"], expected, atol=1e-5)
    np.testing.assert_allclose(several[MEASURE], found, atol=1e-6)
    chosen = {}
    for study in reproduce.STUDIES:
        for config in map(type, study.presets.values()):
            if "measure" in (hints := typing.get_type_hints(config)):
                chosen[study.name] = typing.get_args(hints["measure"])
    assert set(chosen) == {"sgdr", "warmup", "distillation"}
    for names in chosen.values():
        assert "debiased_cka" in names
        assert all(Measure(name=name).streams for name in names)


def test_networks_of_two_classifiers(found):
    other = types.SimpleNamespace(features=last)
    options = {"other": other, "beside": ("cca",)}
    value = between(variables(1), variables(2), **options)[MEASURE]
    np.testing.assert_allclose(value, found[:, 1:], atol=1e-6)
    bad = variables(1)
    bad["params"]["fc"] = bad["params"]["fc"].at[0, 0].set(jnp.inf)
    assert between(bad, variables(2), **options)[MEASURE].shape == (2, 1)


def test_signs_of_a_statistic_by_measure_are_those_of_all_seeds():
    means = {"/calibrated": 0.2, "/svcca/calibrated": -0.1, "/cca/calibrated": 0.3}
    means["/procrustes/calibrated"] = np.nan

    def block(scale):
        by = maps.by_measure(
            lambda kind: {"gap": np.full(2, scale * means[kind])}, "cka"
        )
        return descriptions.to_json(by)

    assert block(1.0)["gap"]["cka"]["mean"] == pytest.approx(0.2)
    blocks = [block(1.0), block(3.0)]
    blocks[1]["gap"]["svcca"] = descriptions.to_json(runs.summary([0.5, 0.5]))
    row = merging.results(blocks, ["0-1", "2-3"])["gap"]
    assert row["svcca"]["mean"] == pytest.approx(0.2)
    names = [*maps.endings("cka")]
    assert [measures.agreeing(own["gap"], names) for own in blocks] == [2, 3]
    assert measures.agreeing(descriptions.to_json(row), names) == 3
