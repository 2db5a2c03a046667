"""Net2Net on VGG: the larger network computes what the smaller one did."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_heuristics import distill, models
from kd_heuristics.distill import net2net
from tests.distill.nets import (
    IMAGES,
    assert_same_function,
    outputs,
    quick,
    randomised,
    vgg,
)

KEY = jax.random.key(0)
normed = pytest.mark.parametrize("use_batch_norm", [False, True])


@functools.cache
def small(use_batch_norm):
    """Variables, and what they compute in both modes."""
    network = vgg(use_batch_norm=use_batch_norm)
    variables = randomised(network.init(KEY, IMAGES))
    return variables, outputs(network, variables, IMAGES)


def shapes(tree):
    return jax.tree.map(jnp.shape, tree)


def target(network, images=IMAGES):
    return jax.eval_shape(network.init, KEY, images)


@normed
def test_a_wider_vgg_is_the_same_function_in_both_modes(use_batch_norm):
    variables, expected = small(use_batch_norm)
    larger = vgg(((5,), (4, 9)), 11, use_batch_norm=use_batch_norm)
    sizes = net2net.widths(target(larger))
    assert sizes == {"conv_00": 5, "conv_01": 4, "conv_02": 9, "fc_0": 11, "fc_1": 11}
    wide = distill.widen(variables, sizes, KEY)
    assert shapes(wide) == shapes(target(larger))
    assert_same_function(outputs(larger, wide, IMAGES), expected)


def test_noise_sets_copies_apart_and_nothing_else():
    rng = np.random.default_rng(0)
    kernels = {
        "conv_00": rng.normal(size=(3, 3, 3, 4)),
        "fc_0": rng.normal(size=(4, 2)),
    }
    params = {name: {"kernel": np.float32(kernel)} for name, kernel in kernels.items()}
    exact, noisy = (
        distill.widen({"params": params}, {"conv_00": 9}, KEY, noise=noise)["params"]
        for noise in (0.0, 0.01)
    )
    here, there = (np.asarray(p["conv_00"]["kernel"]) for p in (noisy, exact))
    np.testing.assert_array_equal(here[..., :4], there[..., :4])
    # 135 draws: their spread is known to 6 %.
    assert 0.008 < (here - there)[..., 4:].std() / there.std() < 0.012
    np.testing.assert_array_equal(noisy["fc_0"]["kernel"], exact["fc_0"]["kernel"])


def test_every_unit_can_be_copied_and_shares_are_divided():
    variables = {
        "params": {
            "conv_00": {"kernel": jnp.arange(2.0).reshape(1, 1, 1, 2)},
            "fc_0": {"kernel": jnp.array([[12.0], [24.0]])},
        }
    }
    wide = distill.widen(variables, {"conv_00": 40}, KEY)["params"]
    origin = np.asarray(wide["conv_00"]["kernel"]).astype(int).ravel()
    assert origin[:2].tolist() == [0, 1]
    assert set(origin[2:]) == {0, 1}
    counts = np.bincount(origin)
    expected = np.array([12, 24])[origin] / counts[origin]
    np.testing.assert_allclose(wide["fc_0"]["kernel"][:, 0], expected, rtol=1e-6)
    again = distill.widen(variables, {"conv_00": 40}, jax.random.key(1))["params"]
    assert np.any(again["conv_00"]["kernel"] != wide["conv_00"]["kernel"])


def test_units_of_ones_own_network():
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=(4, 4)).astype(np.float32) for _ in range(2))
    variables = {"params": {"first": {"kernel": a}, "deep": {"last": {"kernel": b}}}}
    units = {"hidden": net2net.Units(("first",), ("deep/last",))}
    wide = distill.widen(variables, {"hidden": 6}, KEY, units=units)["params"]
    x = rng.normal(size=(5, 4)).astype(np.float32)
    found = np.tanh(x @ wide["first"]["kernel"]) @ wide["deep"]["last"]["kernel"]
    np.testing.assert_allclose(found, np.tanh(x @ a) @ b, atol=1e-6)


@normed
def test_a_deeper_vgg_is_the_same_function(use_batch_norm):
    variables, expected = small(use_batch_norm)
    after = ["conv_02", "conv_00", "conv_02"]
    larger = vgg(((3, 3), (4, 5, 5, 5)), use_batch_norm=use_batch_norm)
    deep = distill.deepen(variables, after, KEY)
    assert shapes(deep) == shapes(target(larger))
    found = outputs(larger, deep, IMAGES)
    if not use_batch_norm:
        assert_same_function(found, expected)
        return
    assert_same_function(found, expected, modes=["evaluation"])
    # In training the new batch norms take the batch's statistics in place of 0 and 1;
    # with these in their scale and bias, training mode is the same too.
    assert np.abs(found["training"] - expected["training"]).max() > 0.01
    relus = training_relus(variables["params"])
    deep = distill.deepen(variables, after, KEY, activations=relus)
    assert_same_function(outputs(larger, deep, IMAGES), expected)


@quick
def training_relus(params):
    """Outputs of the ReLU behind each convolution with the batch's own statistics."""
    x, relus = IMAGES, {}
    for index in range(3):
        layer, norm = params[f"conv_{index:02d}"], params[f"bn_{index:02d}"]
        layout = ("NHWC", "HWIO", "NHWC")
        x = jax.lax.conv_general_dilated(
            x, layer["kernel"], (1, 1), "SAME", dimension_numbers=layout
        )
        axes = {"axis": (0, 1, 2), "keepdims": True}
        # A bias before a batch norm in training mode changes nothing.
        x = (x - x.mean(**axes)) / jnp.sqrt(x.var(**axes) + 1e-5)
        scale, bias = (norm[name][None, None, None] for name in ("scale", "bias"))
        x = relus[f"conv_{index:02d}"] = jax.nn.relu(x * scale + bias)
        if index == 0:
            x = x.reshape(6, 4, 2, 4, 2, -1).max((2, 4))
    return relus


def test_noise_on_identities():
    variables, _ = small(False)
    after = ["conv_02", "conv_02"]
    exact = distill.deepen(variables, after, KEY)["params"]
    noisy = distill.deepen(variables, after, KEY, noise=0.01)["params"]
    new = [noisy[f"conv_{index:02d}"]["kernel"] for index in (3, 4)]
    identity = exact["conv_03"]["kernel"]
    assert identity.sum() == 5
    for kernel in new:
        # 225 draws: their spread is known to 5 %.
        assert 0.0085 < (kernel - identity).std() / identity.std() < 0.0115
    assert np.any(new[0] != new[1])
    np.testing.assert_array_equal(
        noisy["conv_02"]["kernel"], variables["params"]["conv_02"]["kernel"]
    )


def test_vgg11_deepens_to_vgg16():
    images = jnp.zeros((1, 32, 32, 3))
    options = {"width": 0.1, "classifier_width": 8}
    small, large = (
        target(models.create(name, 10, **options), images)
        for name in ("vgg11_bn", "vgg16_bn")
    )
    after = ["conv_00", "conv_01", "conv_03", "conv_05", "conv_07"]
    found = jax.eval_shape(
        lambda variables, key: distill.deepen(variables, after, key), small, KEY
    )
    assert shapes(found) == shapes(large)


FORMS = {
    "vgg11": ("conv_00", True),
    "vgg16_bn": ("conv_00", True),
    "shallow": ("conv_00", True),
    "resnet8": ("block_0_0", True),
    "resnet18": ("block_0_0", True),
    "resnet34_imagenet": ("block_0_0", True),
    "bit_tiny": ("block_0_0", False),
    "bit_r50x1": ("block_0_0", False),
    "mobilenet_tiny": ("block_00", False),
    "mobilenet_v3_small": ("block_00", False),
}


@pytest.mark.parametrize("name", FORMS)
def test_only_what_net2net_is_defined_for_is_changed(name):
    layer, defined = FORMS[name]
    small = target(models.create(name, 10), jnp.zeros((1, 64, 64, 3)))
    grown = {
        "widen": lambda variables, key: distill.widen(
            variables, {layer: distill.net2net.widths(variables)[layer] + 1}, key
        ),
        "deepen": lambda variables, key: distill.deepen(variables, [layer], key),
    }
    for function in grown.values():
        if defined:
            jax.eval_shape(function, small, KEY)
        else:
            with pytest.raises(ValueError, match=r"no VGG or ResNet .* the layers"):
                jax.eval_shape(function, small, KEY)


@pytest.mark.parametrize("path", ["attention/kernel", "block_0_0/conv_2/kernel"])
def test_layers_of_no_known_form_are_named(path):
    variables, _ = small(True)
    layer, _, leaf = path.rpartition("/")
    params = variables["params"] | {layer: {leaf: jnp.zeros((3, 3))}}
    with pytest.raises(ValueError, match=rf"has the layers {layer};.*units="):
        distill.widen({"params": params}, {}, KEY)


def test_what_is_wrong_is_said():
    variables, _ = small(True)

    def wrong(words, function, *arguments, **options):
        with pytest.raises(ValueError, match=words):
            function(*arguments, **options)

    widen, deepen = distill.widen, distill.deepen
    wrong(r"'conv_0'; did you mean 'conv_0\d'", widen, variables, {"conv_0": 9}, KEY)
    wrong(r"unknown units 'fc_2'", widen, variables, {"fc_2": 20}, KEY)
    wrong(r"conv_00 has 3 units, got 2", widen, variables, {"conv_00": 2}, KEY)
    wrong(r"noise must be at least 0", widen, variables, {}, KEY, noise=-0.1)
    wrong(r"keys \['bn_00'.*\"params\"", widen, variables["params"], {}, KEY)
    wrong(r"layers fc;.*Units", widen, {"params": {"fc": {"kernel": 0}}}, {}, KEY)
    wrong(r"cannot be deepened", deepen, {"params": {"fc": {"kernel": 0}}}, [], KEY)
    wrong(r"deepen after 'fc_0'", deepen, variables, ["fc_0"], KEY)
    wrong(r"noise must be at least 0", deepen, variables, [], KEY, noise=-1.0)
    deep = functools.partial(deepen, variables, ["conv_00"], KEY)
    wrong(r"\['conv_01'\] and lack conv_00", deep, activations={"conv_01": 0.0})
    bad = {"conv_00": jnp.zeros((2, 4))}
    wrong(r"shape \(2, 4\); wanted \[\.\.\., 3\]", deep, activations=bad)
    even = {"params": {"conv_00": {"kernel": jnp.zeros((2, 2, 3, 3))}}}
    wrong(r"kernel of 2x2", deepen, even, ["conv_00"], KEY)
