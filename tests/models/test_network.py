"""What every network refuses, whichever function is given it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_heuristics import models

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
    ):
        with pytest.raises(ValueError, match=words):
            call()


@pytest.mark.parametrize("name", models.names())
@pytest.mark.parametrize("classes", [1, 0])
def test_too_few_classes_are_refused(name, classes):
    with pytest.raises(ValueError, match=f"must be at least 2, got {classes}"):
        models.create(name, classes)
