"""What every network refuses, whichever function is given it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_heuristics import models
from kd_heuristics.runtime.compiled import once

IMAGES = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)


@pytest.fixture(scope="module", params=["vgg11", "resnet8", "shallow"])
def network(request):
    return models.create(request.param, 10, width=0.0625)


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (np.zeros((32, 32, 3), np.float32), r"got \(32, 32, 3\); .* images\[None\]"),
        (np.zeros((1, 1, 32, 32, 3), np.float32), r"got \(1, 1, 32, 32, 3\)"),
        (np.zeros((2, 32, 32, 3), np.uint8), "got uint8; .* data.normalize"),
    ],
)
def test_other_images_are_refused_by_every_function(network, images, words):
    variables = jax.eval_shape(network.init, jax.random.key(0), IMAGES)
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), variables)
    for call in (
        lambda: network.init(jax.random.key(0), images),
        lambda: network.apply(zeros, images),
        lambda: network.features(zeros, images),
        lambda: network.train(zeros, images, jax.random.key(0)),
        lambda: network.train_features(zeros, images, jax.random.key(0)),
    ):
        with pytest.raises(ValueError, match=words):
            call()


@pytest.mark.parametrize("name", models.names())
@pytest.mark.parametrize("classes", [1, 0])
def test_too_few_classes_are_refused(name, classes):
    with pytest.raises(ValueError, match=f"must be at least 2, got {classes}"):
        models.create(name, classes)


def test_features_in_training_mode_are_those_of_the_same_pass():
    network = models.create("resnet8", 10, width=0.0625)
    images = jax.random.normal(jax.random.key(1), (4, 8, 8, 3))
    variables, key = network.init(jax.random.key(0), images), jax.random.key(2)
    logits, batch_stats = once(network.train)(variables, images, key)
    features, moved = once(network.train_features)(variables, images, key)
    last = max(features)
    # One program and another: float32 rounding.
    np.testing.assert_allclose(features[last], logits, rtol=1e-4, atol=1e-5)
    for a, b in zip(jax.tree.leaves(moved), jax.tree.leaves(batch_stats), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    evaluated = once(network.features)(variables, images)
    assert list(evaluated) == list(features)
    assert not np.allclose(evaluated[last], features[last], rtol=1e-2)


def test_a_network_without_features_in_training_mode_says_so():
    plain = models.from_functions(
        "plain", lambda k, x: {}, lambda v, x: x, train=lambda v, x, k: (x, {})
    )
    with pytest.raises(ValueError, match="this network has no train_features"):
        plain.train_features({}, jnp.zeros((1, 8, 8, 3)), jax.random.key(0))


def test_training_mode_does_not_hang_on_a_key():
    """Without dropout a key may be None; batch norm learns all the same."""
    network = models.create("vgg11_bn", 10, width=0.05, dropout_rate=0.0)
    images = jax.random.normal(jax.random.key(1), (4, 32, 32, 3))
    variables = network.init(jax.random.key(0), images)
    logits, stats = network.train(variables, images, None)
    wanted, learned = network.train(variables, images, jax.random.key(2))
    np.testing.assert_array_equal(logits, wanted)
    jax.tree.map(np.testing.assert_array_equal, stats, learned)
    assert jax.tree.leaves(stats)
    assert not np.allclose(logits, network.apply(variables, images))
