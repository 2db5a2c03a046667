"""BiT-ResNets and MobileNetV3: counts, features, a float64 forward pass, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_heuristics import models
from kd_heuristics.models.bit import BiT
from kd_heuristics.models.depthwise import depthwise
from kd_heuristics.models.mobilenet import Block, MobileNetV3
from tests.models import oracles

PHOTO = jax.ShapeDtypeStruct((2, 224, 224, 3), jnp.float32)
SMALL = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)
IMAGES = jnp.asarray(np.random.RandomState(0).normal(size=(2, 16, 12, 3)), jnp.float32)


def shapes(name, num_classes=10, images=SMALL, **options):
    network = models.create(name, num_classes, **options)
    variables = jax.eval_shape(network.init, jax.random.key(0), images)
    return variables, jax.eval_shape(network.features, variables, images)


def count(variables):
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


# R50x1 by hand: stem 9,408; a unit of width m and input i has i m + 9 m^2 + 4 m^2
# weights, 2 (i + 2 m) of norm and i * 4 m more with a projection; the last norm 4,096,
# the classifier 2,049,000. The others are as published: torchvision's MobileNetV3 have
# 5,483,032 and 2,542,856.
@pytest.mark.parametrize(
    ("name", "options", "parameters"),
    [
        ("bit_r50x1", {}, 25_549_352),
        ("bit_r101x1", {}, 44_541_480),
        ("bit_r152x2", {}, 236_335_208),
        ("mobilenet_v3_large", {"norm": "batch"}, 5_483_032),
        ("mobilenet_v3_large", {}, 5_483_032),
        ("mobilenet_v3_small", {}, 2_542_856),
    ],
)
def test_parameter_counts(name, options, parameters):
    variables, _ = shapes(name, 1000, PHOTO, **options)
    assert count(variables) == parameters
    assert ("batch_stats" in variables) == (options.get("norm") == "batch")


@pytest.mark.parametrize(
    ("blocks", "factor", "parameters"),
    [((3, 4, 6, 3), 1, 25_549_352), ((3, 8, 36, 3), 2, 236_335_208)],
)
def test_parameters_by_hand(blocks, factor, parameters):
    total = 147 * 64 * factor + 2 * 2_048 * factor + 2_048_000 * factor + 1_000
    for section, number in enumerate(blocks):
        m = 64 * factor * 2**section
        for block in range(number):
            i = 4 * m if block else 2 * m if section else m
            total += 13 * m * m + i * m + 2 * (i + 2 * m) + (0 if block else 4 * i * m)
    assert total == parameters


UNIT = ["gn", "relu", "conv", "gn", "relu", "conv", "gn", "relu", "conv", "block"]
PROJECTED = [*UNIT[:2], "shortcut_conv", *UNIT[2:]]


def test_features_in_order():
    _, features = shapes("bit_tiny")
    kinds = ["conv", "pool", *PROJECTED * 3, "gn", "relu", "pool", "fc"]
    assert list(features) == [f"{i:02d}_{kind}" for i, kind in enumerate(kinds)]
    assert features["12_block"].shape == (2, 8, 8, 64)
    found = models.sections(features)
    assert found == (
        ("01_pool", "12_block"),
        ("12_block", "23_block"),
        ("23_block", "34_block"),
    )
    _, features = shapes("mobilenet_tiny")
    assert list(features) == sorted(features)
    assert features[max(features)].shape == (2, 10)
    with pytest.raises(ValueError, match="no residual blocks"):
        models.sections(features)


def group_normalise(x, layer, groups):
    n, h, w, c = x.shape
    parts = x.reshape(n, h * w, groups, c // groups)
    mean, var = (f(parts, axis=(1, 3), keepdims=True) for f in (np.mean, np.var))
    y = ((parts - mean) / np.sqrt(var + 1e-5)).reshape(x.shape)
    return y * layer["scale"] + layer["bias"]


def standardised(layer):
    kernel = layer["kernel"]
    mean, var = (f(kernel, axis=(0, 1, 2)) for f in (np.mean, np.var))
    return {"kernel": (kernel - mean) / np.sqrt(var + 1e-10)}


def bit_forward(params, x, num_blocks, groups):
    def conv(x, layer, stride=1):
        return oracles.convolve(x, standardised(layer), stride)

    def act(x, layer):
        return np.maximum(group_normalise(x, layer, groups), 0)

    x = oracles.max_pool_3x3(conv(x, params["conv"], 2))
    for section, count in enumerate(num_blocks):
        for index in range(count):
            layers = params[f"block_{section}_{index}"]
            stride = 2 if section and not index else 1
            y = act(x, layers["gn_0"])
            shortcut = x
            if "shortcut_conv" in layers:
                shortcut = conv(y, layers["shortcut_conv"], stride)
            y = act(conv(y, layers["conv_0"]), layers["gn_1"])
            y = act(conv(y, layers["conv_1"], stride), layers["gn_2"])
            x = conv(y, layers["conv_2"]) + shortcut
    x = act(x, params["gn"]).mean((1, 2))
    return x @ params["fc"]["kernel"] + params["fc"]["bias"]


def close(actual, expected):
    # float32 through some ten layers, of which the norms divide by small spreads
    scale = max(np.abs(expected).max(), 1.0)
    np.testing.assert_allclose(actual, expected, atol=3e-5 * scale)


def randomised(variables):
    """Also the classifier's kernel, which starts at zero."""
    variables = oracles.perturbed(variables)
    rng = np.random.default_rng(1)
    return jax.tree.map(
        lambda leaf: leaf if leaf.any() else rng.normal(size=leaf.shape), variables
    )


def test_bit_equals_numpy():
    module = BiT((2, 1), (4, 8), 5, norm_groups=2)
    network = models.from_linen("bit", module)
    variables = network.init(jax.random.key(0), IMAGES)
    # As released: the first step changes the classifier only.
    assert not np.asarray(variables["params"]["fc"]["kernel"]).any()
    variables = jax.tree.map(jnp.float32, randomised(variables))
    logits, features = jax.jit(
        lambda *args: (network.apply(*args), network.features(*args))
    )(variables, IMAGES)
    params = oracles.doubles(variables["params"])
    expected = bit_forward(params, np.float64(IMAGES), (2, 1), 2)
    close(logits, expected)
    close(features[max(features)], expected)
    assert len(features) == 2 + 11 + 10 + 11 + 4


def mobilenet_forward(variables, x, blocks, norm):
    params = oracles.doubles(variables["params"])
    stats = oracles.doubles(variables.get("batch_stats", {}))

    def swish(x):
        return x * np.clip(x / 6 + 0.5, 0, 1)

    def normalise(x, name, params, stats):
        if norm == "group":
            return group_normalise(x, params[name], 8)
        moments = stats[name]
        y = (x - moments["mean"]) / np.sqrt(moments["var"] + 1e-3)
        return y * params[name]["scale"] + params[name]["bias"]

    def filtered(x, kernel, stride):
        seen = oracles.windows(x, len(kernel), stride, 0.0)
        return np.einsum("nhwkc,kc->nhwc", seen, kernel.reshape(-1, x.shape[-1]))

    def dense(x, layer):
        return x @ layer["kernel"] + layer["bias"]

    x = swish(normalise(oracles.convolve(x, params["conv"], 2), "norm", params, stats))
    for index, block in enumerate(blocks):
        name = f"block_{index:02d}"
        own = params[name], stats.get(name, {})
        act = swish if block.hard_swish else lambda x: np.maximum(x, 0)
        y = x
        if "expand" in own[0]:
            y = act(
                normalise(oracles.convolve(y, own[0]["expand"]), "expand_norm", *own)
            )
        y = filtered(y, own[0]["depthwise"]["kernel"], block.stride)
        y = act(normalise(y, "depthwise_norm", *own))
        if block.squeeze:
            weight = np.maximum(dense(y.mean((1, 2)), own[0]["squeeze"]), 0)
            weight = np.clip(dense(weight, own[0]["excite"]) / 6 + 0.5, 0, 1)
            y = y * weight[:, None, None]
        y = normalise(oracles.convolve(y, own[0]["project"]), "project_norm", *own)
        x = x + y if x.shape == y.shape else y
    x = normalise(oracles.convolve(x, params["last_conv"]), "last_norm", params, stats)
    x = swish(dense(swish(x).mean((1, 2)), params["fc_0"]))
    return dense(x, params["fc_1"])


BLOCKS = (
    Block(3, 8, 8, False, False, 1),  # neither widened nor squeezed; with its input
    Block(5, 16, 8, True, True, 2),
)


@pytest.mark.parametrize("norm", ["group", "batch"])
def test_mobilenet_equals_numpy(norm):
    module = MobileNetV3(BLOCKS, 8, 3, width=0.5, norm=norm)
    network = models.from_linen("mobilenet", module)
    variables = oracles.perturbed(network.init(jax.random.key(0), IMAGES))
    logits = jax.jit(network.apply)(variables, IMAGES)
    close(logits, mobilenet_forward(variables, np.float64(IMAGES), BLOCKS, norm))


@pytest.mark.parametrize(("size", "stride"), [(3, 1), (5, 2)])
def test_depthwise_and_its_gradients_are_the_grouped_convolution(size, stride):
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(keys[0], (2, 7, 6, 4))
    kernel = jax.random.normal(keys[1], (size, size, 1, 4))
    margin = size // 2

    def ours(x, kernel):
        return depthwise(x, kernel, stride=stride)

    def plain(x, kernel):
        return jax.lax.conv_general_dilated(
            x,
            kernel,
            (stride, stride),
            ((margin, margin),) * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=4,
        )

    def with_gradients(function):
        out, pull = jax.vjp(function, x, kernel)
        return out, *pull(jnp.cos(out))

    for found, expected in zip(
        jax.jit(lambda: with_gradients(ours))(), with_gradients(plain), strict=True
    ):
        np.testing.assert_allclose(found, expected, atol=1e-4)  # sums of 84 in float32


def test_depthwise_is_grouped_and_saves_only_its_operands_on_a_gpu():
    def step(x, kernel):
        return jax.grad(lambda *args: depthwise(*args).sum(), (0, 1))(x, kernel)

    args = jnp.zeros((2, 8, 8, 4)), jnp.zeros((3, 3, 1, 4))
    text = jax.export.export(jax.jit(step), platforms=["cuda"])(*args).mlir_module()
    assert "stablehlo.convolution" in text


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("bit_tiny", {"norm_groups": 0}, "norm_groups must be at least 1, got 0"),
        ("bit_tiny", {"channels": (8,)}, "unknown option of bit_tiny 'channels'"),
        ("mobilenet_tiny", {"norm": "layer"}, "must be group or batch, got layer"),
        ("bit_r50x2", {}, "did you mean 'bit_r"),
    ],
)
def test_bad_options(name, options, words):
    with pytest.raises(ValueError, match=words):
        models.create(name, 10, **options)


def test_groups_must_divide_the_channels():
    with pytest.raises(ValueError, match=r"got 32 groups for 16 channels \(gn_0\)"):
        shapes("bit_r50x1", width=0.25)
    with pytest.raises(ValueError, match=r"at least 16x16, got 8x8; load .* size=16"):
        shapes("bit_tiny", images=jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32))
