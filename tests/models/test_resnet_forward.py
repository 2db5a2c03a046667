"""Residual networks against a float64 forward pass, in both modes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_heuristics import models
from kd_heuristics.models.resnet import ResNet
from tests.models import oracles

# An even and an odd side: at stride 2 they are padded differently under "SAME".
IMAGES = jnp.asarray(np.random.RandomState(0).normal(size=(4, 8, 7, 3)), jnp.float32)
MOMENTUM = 0.8
TINY = {"width": 0.125, "batch_norm_momentum": MOMENTUM}


class Oracle:
    """A forward pass that collects features and, in training, running statistics."""

    def __init__(self, variables, groups):
        self.params = oracles.doubles(variables["params"])
        self.stats = oracles.doubles(variables["batch_stats"])
        self.groups = groups  # None: evaluation
        self.features, self.moved = [], {}

    def record(self, value):
        self.features.append(value)
        return value

    def conv(self, x, *path, stride=1):
        return self.record(oracles.convolve(x, at(self.params, path), stride))

    def norm(self, x, *path):
        layer, stats = at(self.params, path), at(self.stats, path)
        if self.groups is None:
            return self.record(oracles.normalise(x, layer, **stats))
        y, moved = oracles.normalise_batch(x, layer, stats, self.groups, MOMENTUM)
        self.moved["/".join(path)] = moved
        return self.record(y)

    def relu(self, x):
        return self.record(np.maximum(x, 0))

    def block(self, x, name, stride):
        y = self.conv(x, name, "conv_0", stride=stride)
        y = self.relu(self.norm(y, name, "bn_0"))
        y = self.norm(self.conv(y, name, "conv_1"), name, "bn_1")
        if "shortcut_conv" in self.params[name]:
            x = self.conv(x, name, "shortcut_conv", stride=stride)
            x = self.norm(x, name, "shortcut_bn")
        elif x.shape != y.shape:
            padded = np.zeros_like(y)
            padded[..., : x.shape[-1]] = x[:, ::stride, ::stride]
            x = padded
        return self.relu(self.record(x + y))

    def run(self, images, num_blocks, imagenet):
        x = np.asarray(images, np.float64)
        if "input_bn" in self.params:
            x = self.norm(x, "input_bn")
        x = self.conv(x, "conv", stride=2 if imagenet else 1)
        x = self.relu(self.norm(x, "bn"))
        if imagenet:
            x = self.record(oracles.max_pool_3x3(x))
        for section, count in enumerate(num_blocks):
            for index in range(count):
                stride = 2 if section and not index else 1
                x = self.block(x, f"block_{section}_{index}", stride)
        x = self.record(x.mean((1, 2)))
        layer = self.params["fc"]
        return self.record(x @ layer["kernel"] + layer["bias"])


def at(tree, path):
    return functools.reduce(lambda node, key: node[key], path, tree)


def imagenet(**options):
    module = ResNet((2, 1), (4, 6), 10, stem="imagenet", **options)
    return models.from_linen("imagenet", module)


NETWORKS = {
    "padding": (models.create("resnet8", 10, **TINY), (1, 1, 1), 1),
    "projection": (
        models.create(
            "resnet8",
            10,
            shortcut="projection",
            input_batch_norm=True,
            batch_norm_groups=2,
            **TINY,
        ),
        (1, 1, 1),
        2,
    ),
    "imagenet": (imagenet(batch_norm_momentum=MOMENTUM), (2, 1), 1),
}


@pytest.fixture(scope="module", params=NETWORKS)
def case(request):
    network, num_blocks, groups = NETWORKS[request.param]
    images = IMAGES
    if request.param == "imagenet":
        images = jnp.asarray(jax.random.normal(jax.random.key(3), (2, 18, 13, 3)))
    variables = oracles.perturbed(network.init(jax.random.key(1), images))

    def oracle(groups):
        found = Oracle(variables, groups)
        found.logits = found.run(images, num_blocks, request.param == "imagenet")
        return found

    return network, variables, images, oracle, groups


def close(actual, expected, name=""):
    # float32 through some ten layers, of which the norms divide by small spreads
    scale = max(np.abs(expected).max(), 1.0)
    np.testing.assert_allclose(actual, expected, atol=2e-5 * scale, err_msg=name)


def test_evaluation_equals_numpy_at_every_layer(case):
    network, variables, images, oracle, _ = case
    both = jax.jit(lambda *args: (network.apply(*args), network.features(*args)))
    logits, features = both(variables, images)
    expected = oracle(groups=None)
    assert logits.dtype == jnp.float32
    close(logits, expected.logits)
    assert len(features) == len(expected.features)
    for (name, found), value in zip(features.items(), expected.features, strict=True):
        close(found, value, name)


def test_training_equals_numpy_and_updates_every_statistic(case):
    network, variables, images, oracle, groups = case
    train = jax.jit(network.train)
    logits, stats = train(variables, images, jax.random.key(2))
    expected = oracle(groups)
    close(logits, expected.logits)
    assert jax.tree.structure(stats) == jax.tree.structure(variables["batch_stats"])
    assert 2 * len(expected.moved) == len(jax.tree.leaves(stats))
    for path, moved in expected.moved.items():
        for name, value in moved.items():
            close(at(stats, path.split("/"))[name], value, f"{path}/{name}")


def test_vmap_over_parameters():
    network, *_ = NETWORKS["padding"]
    first = network.init(jax.random.key(1), IMAGES)
    several = [first, oracles.perturbed(first)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *several)
    logits = jax.jit(jax.vmap(network.apply, (0, None)))(stacked, IMAGES)
    apply = jax.jit(network.apply)
    for found, variables in zip(logits, several, strict=True):
        expected = np.asarray(apply(variables, IMAGES))
        close(found, expected)


def test_bfloat16_computes_in_bfloat16_and_keeps_float32():
    network = models.create("resnet8", 10, dtype=jnp.bfloat16, **TINY)
    variables = network.init(jax.random.key(1), IMAGES)
    train, features = (
        jax.eval_shape(function, variables, IMAGES, *key)
        for function, key in (
            (network.train, (jax.random.key(2),)),
            (network.features, ()),
        )
    )
    kept = {leaf.dtype.name for leaf in jax.tree.leaves((variables, train))}
    assert kept == {"float32"}
    assert {leaf.dtype.name for leaf in features.values()} == {"bfloat16"}
    expected = Oracle(variables, None).run(IMAGES, (1, 1, 1), imagenet=False)
    logits = jax.jit(network.apply)(variables, IMAGES)
    # each of about ten layers rounds to 8 bits: 10 * 2^-9 = 0.02 of the largest
    np.testing.assert_allclose(logits, expected, atol=0.02 * np.abs(expected).max())
