"""VGG: counts, features, initialisation, and a float64 forward pass."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_heuristics import models
from tests.models import oracles

IMAGES = jnp.asarray(np.random.RandomState(0).normal(size=(3, 32, 32, 3)), jnp.float32)
TINY = {"width": 0.05, "classifier_width": 8}


def count(name, **options):
    network = models.create(name, 10, **options)
    shapes = jax.eval_shape(network.init, jax.random.key(0), IMAGES)
    return sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))


@pytest.mark.parametrize(
    ("name", "options", "parameters"),
    [
        ("vgg11", {}, 9_750_922),
        ("vgg11_bn", {}, 9_756_426),
        ("vgg16", {}, 15_245_130),
        ("vgg16_bn", {}, 15_253_578),
        ("vgg16", {"classifier_width": 4096}, 33_638_218),
        ("vgg11", {"width": 0.25, "classifier_width": 128}, 611_434),
    ],
)
def test_parameter_counts(name, options, parameters):
    assert count(name, **options) == parameters


PLAIN = ["conv", "relu"]
NORMED = ["conv", "bn", "relu"]
CLASSIFIER = ["dropout", "fc", "relu", "dropout", "fc", "relu", "fc"]


@pytest.mark.parametrize(
    ("name", "block", "stages", "entries"),
    [
        ("vgg11_bn", NORMED, (1, 1, 2, 2, 2), 36),
        ("vgg16", PLAIN, (2, 2, 3, 3, 3), 38),
    ],
)
def test_features_are_the_papers_layers_in_order(name, block, stages, entries):
    network = models.create(name, 10, **TINY)

    def features(key, images):
        return network.features(network.init(key, images), images)

    found = jax.eval_shape(features, jax.random.key(0), IMAGES)
    kinds = [kind for n in stages for kind in [*block * n, "pool"]] + CLASSIFIER
    assert list(found) == [f"{i:02d}_{kind}" for i, kind in enumerate(kinds)]
    assert len(found) == entries
    assert list(found) == sorted(found)
    assert found[f"{entries - 1}_fc"].shape == (3, 10)


@pytest.fixture(scope="module", params=["vgg11", "vgg11_bn"])
def trained(request):
    options = {"batch_norm_momentum": 0.8} if request.param == "vgg11_bn" else {}
    network = models.create(request.param, 10, **TINY, **options)
    variables = network.init(jax.random.key(1), IMAGES)
    logits, batch_stats = jax.jit(network.train)(variables, IMAGES, jax.random.key(2))
    return network, variables, logits, batch_stats


def oracle(variables):
    """The evaluation-mode forward pass in float64, layer by layer."""
    p = oracles.doubles(variables["params"])
    s = oracles.doubles(variables.get("batch_stats", {}))
    x, index = np.asarray(IMAGES, np.float64), 0
    for convolutions in (1, 1, 2, 2, 2):
        for _ in range(convolutions):
            x = oracles.convolve(x, p[f"conv_{index:02d}"])
            name = f"bn_{index:02d}"
            if name in p:
                x = oracles.normalise(x, p[name], **s[name])
            x, index = np.maximum(x, 0), index + 1
        x = oracles.max_pool_2x2(x)
    x = x.reshape(len(x), -1)
    for name in ("fc_0", "fc_1", "fc_2"):
        x = x @ p[name]["kernel"] + p[name]["bias"]
        x = np.maximum(x, 0) if name != "fc_2" else x
    return x


def test_forward_equals_numpy(trained):
    network, variables, _, batch_stats = trained
    if batch_stats:
        variables = {**variables, "batch_stats": batch_stats}
    logits = network.apply(variables, IMAGES)
    assert logits.dtype == jnp.float32
    expected = oracle(variables)
    # float32 through 11 layers
    np.testing.assert_allclose(logits, expected, atol=2e-5 * np.abs(expected).max())


def test_training_uses_the_batch_and_updates_its_statistics(trained):
    network, variables, logits, batch_stats = trained
    evaluated = network.apply(variables, IMAGES)
    assert np.abs(np.asarray(logits - evaluated)).max() > 1e-3  # dropout, batch norm
    if network.name == "vgg11":
        assert batch_stats == {}
        return
    layer = oracles.doubles(variables["params"])["conv_00"]
    first = oracles.convolve(np.asarray(IMAGES, np.float64), layer)
    found = batch_stats["bn_00"]
    mean, variance = first.mean((0, 1, 2)), first.var((0, 1, 2))
    np.testing.assert_allclose(found["mean"], 0.2 * mean, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found["var"], 0.8 + 0.2 * variance, rtol=1e-5)


@pytest.mark.parametrize("factor", [1.0, 3.0])
def test_kernels_are_he_normal_by_fan_in(factor):
    network = models.create("vgg11", 10, width=0.5, init_factor=factor)
    params = network.init(jax.random.key(0), IMAGES)["params"]
    for name, layer in params.items():
        kernel = np.asarray(layer["kernel"])
        expected = factor * np.sqrt(2 / np.prod(kernel.shape[:-1]))
        # the standard error of a standard deviation is std / sqrt(2 n)
        spread = 5 / np.sqrt(2 * kernel.size)
        np.testing.assert_allclose(kernel.std(), expected, rtol=spread, err_msg=name)
        assert not np.asarray(layer["bias"]).any()


@pytest.mark.parametrize(
    ("name", "classes", "options", "words"),
    [
        ("vgg61", 10, {}, "unknown model 'vgg61'; did you mean 'vgg16'"),
        (
            "vgg16",
            10,
            {"witdh": 1},
            "unknown option of vgg16 'witdh'; did you mean 'width'",
        ),
        ("vgg16", 1, {}, "num_classes must be at least 2, got 1"),
        ("vgg16", 10, {"width": 0.0}, "width must be positive, got 0.0"),
        ("vgg16", 10, {"dropout_rate": 1.0}, "dropout_rate must be in [0, 1), got 1.0"),
        ("vgg16", 10, {"dtype": jnp.int32}, "dtype must be floating-point"),
        ("vgg16_bn", 10, {"batch_norm_groups": 0}, "groups must be at least 1, got 0"),
        # it would do nothing
        (
            "vgg16",
            10,
            {"batch_norm_groups": 2},
            "unknown option of vgg16 'batch_norm_groups'",
        ),
    ],
)
def test_bad_input(name, classes, options, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        models.create(name, classes, **options)


def test_small_images_are_refused_with_the_remedy():
    network = models.create("vgg16", 10, **TINY)
    with pytest.raises(ValueError, match=r"at least 32x32, got 8x8; load .* size=32"):
        network.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
