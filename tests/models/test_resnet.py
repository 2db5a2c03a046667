"""Residual networks: counts, features and their sections, initialisation, errors."""

import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_heuristics import models

CIFAR = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)
IMAGENET = jax.ShapeDtypeStruct((2, 224, 224, 3), jnp.float32)


def shapes(name, num_classes=10, **options):
    """Shapes of variables and features, and the network."""
    network = models.create(name, num_classes, **options)
    images = IMAGENET if name.endswith("imagenet") else CIFAR
    variables = jax.eval_shape(network.init, jax.random.key(0), images)
    return variables, jax.eval_shape(network.features, variables, images)


# By hand, with c channels: a block of one size has 18 c^2 weights and 4 c of batch
# norm; one from c / 2 to c has 13.5 c^2 + 4 c, and c^2 / 2 + 2 c more in a projection.
#   CIFAR: stem 432 + 32; sections 4,672 n, 13,952 + 18,560 (n - 1) and
#   55,552 + 73,984 (n - 1); classifier 650. In all 75,290 + 97,216 (n - 1);
#   projections add 576 + 2,176, a batch norm of the images 6. Four times as wide,
#   n = 2, 100 classes: 1,856 + 147,968 + 517,120 + 2,066,432 + 25,700.
#   ImageNet: stem 9,536; blocks that change the size 230,144, 919,040 and 3,673,088,
#   the others 73,984, 295,424, 1,180,672 and 4,720,640; classifier 513,000.
@pytest.mark.parametrize(
    ("name", "classes", "options", "parameters"),
    [
        ("resnet8", 10, {}, 75_290),
        ("resnet14", 10, {}, 172_506),
        ("resnet20", 10, {}, 269_722),
        ("resnet26", 10, {}, 366_938),
        ("resnet32", 10, {}, 464_154),
        ("resnet20", 10, {"shortcut": "projection"}, 272_474),
        ("resnet8", 10, {"input_batch_norm": True}, 75_296),
        ("resnet14", 100, {"width": 4}, 2_759_076),
        ("resnet18", 10, {}, 11_173_962),
        ("resnet34_imagenet", 1000, {}, 21_797_672),
        ("resnet20_imagenet", 1000, {}, 12_870_184),
    ],
)
def test_parameter_counts(name, classes, options, parameters):
    variables, _ = shapes(name, classes, **options)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == parameters


PLAIN = ["conv", "bn", "relu", "conv", "bn", "add", "block"]
PROJECTED = [*PLAIN[:5], "shortcut_conv", "shortcut_bn", *PLAIN[5:]]


@pytest.mark.parametrize(
    ("name", "options", "kinds"),
    [
        ("resnet8", {}, ["conv", "bn", "relu", *PLAIN * 3]),
        (
            "resnet8",
            {"input_batch_norm": True, "shortcut": "projection"},
            ["bn", "conv", "bn", "relu", *PLAIN, *PROJECTED * 2],
        ),
        ("resnet18", {}, ["conv", "bn", "relu", *PLAIN * 2, *(PROJECTED + PLAIN) * 3]),
        (
            "resnet20_imagenet",
            {},
            [
                *("conv", "bn", "relu", "pool", *PLAIN * 2),  # sections of 2, 2, 3, 2
                *(PROJECTED + PLAIN),
                *(PROJECTED + PLAIN * 2),
                *(PROJECTED + PLAIN),
            ],
        ),
    ],
)
def test_features_in_order(name, options, kinds):
    _, features = shapes(name, width=0.0625, **options)
    kinds = [*kinds, "pool", "fc"]
    assert list(features) == [f"{i:02d}_{kind}" for i, kind in enumerate(kinds)]
    assert features[f"{len(kinds) - 1}_fc"].shape == (2, 10)


def test_more_than_a_hundred_features_keep_their_order():
    _, features = shapes("resnet32", width=0.0625)
    assert len(features) == 110  # 3, 7 for each of 15 blocks, 2
    assert list(features) == sorted(features)
    kinds = [name.split("_", 1) for name in features]
    assert kinds[0] == ["000", "conv"]
    assert kinds[-2:] == [["108", "pool"], ["109", "fc"]]


@pytest.mark.parametrize(
    ("name", "options", "entry", "sides", "channels", "blocks"),
    [
        ("resnet8", {}, "02_relu", (32, 16, 8), (16, 32, 64), (1, 1, 1)),
        ("resnet32", {"width": 4}, "002_relu", (32, 16, 8), (64, 128, 256), (5, 5, 5)),
        (
            "resnet26",
            {"input_batch_norm": True},
            "03_relu",
            (32, 16, 8),
            (16, 32, 64),
            (4, 4, 4),
        ),
        (
            "resnet18",
            {},
            "02_relu",
            (32, 16, 8, 4),
            (64, 128, 256, 512),
            (2, 2, 2, 2),
        ),
        (
            "resnet34_imagenet",
            {},
            "003_pool",
            (56, 28, 14, 7),
            (64, 128, 256, 512),
            (3, 4, 6, 3),
        ),
    ],
)
def test_sections_begin_with_their_input(name, options, entry, sides, channels, blocks):
    _, features = shapes(name, **options)
    found = models.sections(features)
    assert found[0][0] == entry
    assert tuple(len(section) - 1 for section in found) == blocks
    for before, after in itertools.pairwise(found):
        assert after[0] == before[-1]
    for section, side, width in zip(found, sides, channels, strict=True):
        for block in section[1:]:
            assert block.endswith("_block")
            assert features[block].shape == (2, side, side, width)
    assert features[entry].shape == (2, sides[0], sides[0], channels[0])


def test_sections_are_refused_where_there_are_none():
    with pytest.raises(ValueError, match="no residual blocks: 00_conv, 01_relu"):
        models.sections({"00_conv": CIFAR, "01_relu": CIFAR})


def test_kernels_are_he_normal_by_fan_in():
    network = models.create("resnet8", 10, init_factor=3.0)
    params = network.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))["params"]
    leaves = jax.tree_util.tree_leaves_with_path(params)
    kernels = [np.asarray(leaf) for path, leaf in leaves if path[-1].key == "kernel"]
    assert len(kernels) == 8
    for kernel in kernels:
        expected = 3 * np.sqrt(2 / np.prod(kernel.shape[:-1]))
        # the standard error of a standard deviation is std / sqrt(2 n)
        spread = 5 / np.sqrt(2 * kernel.size)
        np.testing.assert_allclose(kernel.std(), expected, rtol=spread)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"shortcut": "identity"}, "must be padding or projection, got identity"),
        ({"batch_norm_groups": 0}, "batch_norm_groups must be at least 1, got 0"),
        ({"stem": "cifar"}, "unknown option of resnet8 'stem'"),
        ({"channels": (1, 2, 3)}, "unknown option of resnet8 'channels'"),
    ],
)
def test_bad_options(options, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        models.create("resnet8", 10, **options)


@pytest.mark.parametrize(
    ("name", "smallest"),
    [("resnet8", 4), ("resnet18", 8), ("resnet20_imagenet", 32)],
)
def test_small_images_are_refused_with_the_remedy(name, smallest):
    network = models.create(name, 10, width=0.0625)
    side = smallest - 1
    with pytest.raises(ValueError, match=rf"got {side}x40; load .* size={smallest}"):
        jax.eval_shape(
            network.init, jax.random.key(0), jnp.zeros((1, side, 40, 3), jnp.float32)
        )
    small = jnp.zeros((1, smallest, smallest, 3))
    jax.eval_shape(network.init, jax.random.key(0), small)


def test_groups_must_divide_the_batch_in_training_only():
    network = models.create("resnet8", 10, width=0.0625, batch_norm_groups=3)
    variables = jax.eval_shape(network.init, jax.random.key(0), CIFAR)
    jax.eval_shape(network.apply, variables, CIFAR)
    with pytest.raises(ValueError, match="got 3 groups for 2 examples"):
        jax.eval_shape(network.train, variables, CIFAR, jax.random.key(0))
