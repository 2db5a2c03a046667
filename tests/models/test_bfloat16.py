"""Compute in bfloat16: what is kept stays float32, in every family of networks."""

import jax
import jax.numpy as jnp
import pytest

from kd_heuristics import models, training

FAMILIES = {
    "vgg11": {"width": 0.05},
    "vgg11_bn": {"width": 0.05},
    "resnet8": {"width": 0.25},
    "resnet18": {"width": 0.05},
    "resnet20_imagenet": {"width": 0.05},
    "shallow": {"width": 0.05},
    "bit_tiny": {"width": 0.25},
    "mobilenet_tiny": {"norm": "batch"},
}
IMAGES = jax.ShapeDtypeStruct((4, 32, 32, 3), jnp.float32)


def dtypes(tree):
    return {leaf.dtype.name for leaf in jax.tree.leaves(tree)}


@pytest.mark.parametrize("name", FAMILIES)
def test_only_activations_are_bfloat16(name):
    """By shapes alone: nothing is compiled."""
    network = models.create(name, 10, dtype="bfloat16", **FAMILIES[name])
    classifier = training.Classifier(network, (0.0,) * 3, (1.0,) * 3)
    key = jax.random.key(0)
    variables = jax.eval_shape(lambda x: network.init(key, x), IMAGES)
    batch = {
        "images": jax.ShapeDtypeStruct(IMAGES.shape, jnp.uint8),
        "labels": jax.ShapeDtypeStruct((4,), jnp.int32),
        "mask": jax.ShapeDtypeStruct((4,), jnp.bool_),
    }

    def step(variables, batch):
        params, batch_stats = variables["params"], variables.get("batch_stats", {})
        step = jax.value_and_grad(classifier.supervised, has_aux=True)
        return step(params, batch_stats, batch, key)

    assert dtypes(variables) == {"float32"}
    # The loss, the new statistics, the metrics and the gradient.
    assert dtypes(jax.eval_shape(step, variables, batch)) == {"float32"}
    assert jax.eval_shape(network.apply, variables, IMAGES).dtype == jnp.float32
    features = jax.eval_shape(network.features, variables, IMAGES)
    assert dtypes(features) == {"bfloat16"}
