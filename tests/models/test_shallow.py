"""The shallow student: layers in the paper's order, counts, a float64 forward pass."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_heuristics import models
from tests.models import oracles

IMAGES = jnp.asarray(np.random.RandomState(0).normal(size=(3, 9, 8, 3)), jnp.float32)


@pytest.mark.parametrize(
    ("options", "parameters"),
    [
        # 25 * 3 * 64 + 64, 25 * 64 * 64 + 64, 4096 * 512 + 512, 512 * 512 + 512, 5130
        ({}, 2_472_778),
        # 25 * 3 * 16 + 16, 25 * 16 * 16 + 16, 1024 * 32 + 32, 32 * 32 + 32, 330
        ({"width": 0.25, "classifier_width": 32}, 41_818),
    ],
)
def test_parameter_counts(options, parameters):
    network = models.create("shallow", 10, **options)
    shapes = jax.eval_shape(
        network.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3), jnp.float32)
    )
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes["params"])) == parameters
    assert set(shapes) == {"params"}


def test_every_layer_equals_numpy():
    """[conv pool relu] x 2, fc relu, fc, fc: the ten columns of Figure 6."""
    network = models.create("shallow", 10, width=0.05, classifier_width=6)
    variables = oracles.perturbed(network.init(jax.random.key(1), IMAGES))
    params = oracles.doubles(variables["params"])
    expected, x = {}, np.asarray(IMAGES, np.float64)

    def record(kind, value):
        expected[f"{len(expected):02d}_{kind}"] = value
        return value

    for layer in ("conv_00", "conv_01"):
        x = record("conv", oracles.convolve(x, params[layer]))
        even = x[:, : x.shape[1] // 2 * 2]
        x = record("relu", np.maximum(record("pool", oracles.max_pool_2x2(even)), 0))
    x = x.reshape(len(x), -1)
    for layer in ("fc_0", "fc_1", "fc_2"):
        x = record("fc", x @ params[layer]["kernel"] + params[layer]["bias"])
        x = record("relu", np.maximum(x, 0)) if layer == "fc_0" else x

    features = jax.jit(network.features)(variables, IMAGES)
    assert list(features) == list(expected)
    for name, value in expected.items():
        # float32 sums of up to 75 products
        scale = np.abs(value).max()
        np.testing.assert_allclose(features[name], value, atol=1e-5 * scale)
    logits, stats = jax.jit(network.train)(variables, IMAGES, jax.random.key(0))
    np.testing.assert_allclose(logits, x, atol=1e-5 * np.abs(x).max())
    assert stats == {}


def test_small_images_are_refused_with_the_remedy():
    network = models.create("shallow", 10)
    with pytest.raises(ValueError, match=r"at least 4x4, got 3x8; load .* size=4"):
        network.init(jax.random.key(0), jnp.zeros((1, 3, 8, 3)))
