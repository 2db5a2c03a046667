"""Net2Net on ResNets: residual sums, shortcuts with zeros and with projections."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_heuristics import distill, models
from kd_heuristics.distill import net2net
from kd_heuristics.models.resnet import ResNet
from tests.distill.nets import (
    IMAGES,
    assert_same_function,
    outputs,
    quick,
    randomised,
)

KEY = jax.random.key(0)
shortcuts = pytest.mark.parametrize("shortcut", ["padding", "projection"])


def resnet(shortcut, num_blocks=(1, 2), channels=(3, 5)):
    module = ResNet(num_blocks, channels, num_classes=4, shortcut=shortcut)
    return models.from_linen("resnet", module)


# As in test_net2net, of another network.
@functools.cache
def small(shortcut):
    network = resnet(shortcut)
    variables = randomised(network.init(KEY, IMAGES))
    return variables, outputs(network, variables, IMAGES)


def shapes(tree):
    return jax.tree.map(jnp.shape, tree)


def target(network, images=IMAGES):
    return jax.eval_shape(network.init, KEY, images)


@shortcuts
def test_a_wider_resnet_is_the_same_function_in_both_modes(shortcut):
    variables, expected = small(shortcut)
    larger = resnet(shortcut, channels=(5, 9))
    sizes = net2net.widths(target(larger))
    assert sizes["section_0"] == sizes["block_0_0"] == 5
    wide = distill.widen(variables, sizes, KEY)
    assert shapes(wide) == shapes(target(larger))
    assert_same_function(outputs(larger, wide, IMAGES), expected)


@shortcuts
def test_a_deeper_resnet_is_the_same_function_in_both_modes(shortcut):
    variables, expected = small(shortcut)
    larger = resnet(shortcut, num_blocks=(2, 4))
    after = ["block_1_0", "block_0_0", "block_1_0"]
    deep = distill.deepen(variables, after, KEY)
    assert shapes(deep) == shapes(target(larger))
    np.testing.assert_array_equal(
        deep["params"]["block_1_3"]["conv_0"]["kernel"],
        variables["params"]["block_1_1"]["conv_0"]["kernel"],
    )
    assert_same_function(outputs(larger, deep, IMAGES), expected)


def test_a_new_block_can_learn():
    variables, _ = small("padding")
    network = resnet("padding", num_blocks=(2, 2))
    deep = distill.deepen(variables, ["block_0_0"], KEY)

    @quick
    def gradient(params):
        def loss(params):
            logits, _ = network.train(deep | {"params": params}, IMAGES, KEY)
            return jnp.square(logits).sum()

        return jax.grad(loss)(params)

    slopes = gradient(deep["params"])["block_0_1"]
    assert np.all(np.abs(slopes["bn_1"]["scale"]) > 1e-4)


@pytest.mark.parametrize(
    ("name", "larger", "options", "after"),
    [
        ("resnet20", "resnet32", {}, ["block_0_2", "block_1_2", "block_2_0"] * 2),
        ("resnet8", "resnet8", {"width": 2.0}, []),
        ("resnet18", "resnet18", {"width": 1.5}, []),
        (
            "resnet20_imagenet",
            "resnet34_imagenet",
            {},
            ["block_0_0", *["block_1_1"] * 2, *["block_2_2"] * 3, "block_3_0"],
        ),
    ],
)
def test_the_named_networks_reach_each_other(name, larger, options, after):
    images = jnp.zeros((1, 64, 64, 3))
    wanted = target(models.create(larger, 10, **options), images)

    def grown(variables, key):
        deep = distill.deepen(variables, after, key)
        return distill.widen(deep, net2net.widths(wanted), key)

    found = jax.eval_shape(grown, target(models.create(name, 10), images), KEY)
    assert shapes(found) == shapes(wanted)


def test_what_a_shortcut_rules_out_is_said():
    variables, _ = small("padding")
    with pytest.raises(ValueError, match=r"section_1 must have at least 6 .*has 4"):
        distill.widen(variables, {"section_0": 4}, KEY)
    with pytest.raises(ValueError, match=r"'block_0_1'; did you mean 'block_"):
        distill.deepen(variables, ["block_0_1"], KEY)
    square = randomised(target_values(resnet("padding", channels=(3, 3))))
    with pytest.raises(ValueError, match=r"section_1 must have exactly 3 .*has 3"):
        distill.widen(square, {"section_1": 4}, KEY)


def target_values(network):
    return jax.tree.map(lambda leaf: np.ones(leaf.shape), target(network))
