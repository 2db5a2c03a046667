"""Maps between two networks of a study: values, the floor, divergence, few bytes."""

import types

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.common import maps
from kd_heuristics import compilation, similarity

IMAGES = np.random.default_rng(0).integers(0, 256, (60, 4, 4, 3), np.uint8)
MEASURE = "cka"


def features(params, batch_stats, images):
    x = images.astype(jnp.float32) / 255 - batch_stats["mean"]
    conv = jnp.tanh(x @ params["conv"])
    return {"00_conv": conv, "01_fc": jnp.mean(conv, (1, 2)) @ params["fc"]}


CLASSIFIER = types.SimpleNamespace(features=features)


def variables(seed):
    rng = np.random.default_rng(seed)
    params = {"conv": rng.normal(size=(3, 4)), "fc": rng.normal(size=(4, 3))}
    params = {name: jnp.float32(value) for name, value in params.items()}
    return {"params": params, "batch_stats": {"mean": jnp.float32(0.5)}}


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
    acts = [
        features(net["params"], net["batch_stats"], IMAGES)
        for net in (variables(1), variables(2))
    ]
    np.testing.assert_allclose(found, similarity.matrix(*acts, MEASURE), atol=1e-5)
    assert maps.layers(CLASSIFIER, variables(1), IMAGES) == list(acts[0])


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
