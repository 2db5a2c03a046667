"""The released weights: made-up files of both true layouts, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_heuristics import models
from kd_heuristics.models import bit_weights
from kd_heuristics.models.bit import BiT

NETWORK = models.from_linen("bit", BiT((2, 1), (4, 8), 5, norm_groups=2))
SHAPES = jax.eval_shape(
    NETWORK.init, jax.random.key(0), jnp.zeros((1, 16, 16, 3), jnp.float32)
)
RNG = np.random.default_rng(0)


def array(*shape):
    return RNG.normal(size=shape).astype(np.float32)


# As in the files: (block, unit, channels in, m, projection), the sizes of the network.
UNITS = [(1, 1, 4, 4, True), (1, 2, 16, 4, False), (2, 1, 16, 8, True)]


def new_layout():
    """That of big_vision, below "params/"."""
    arrays = {
        "root_block/conv_root/kernel": array(7, 7, 3, 4),
        "norm-pre-head/scale": array(1, 1, 1, 32),
        "norm-pre-head/bias": array(1, 1, 1, 32),
        "head/kernel": array(32, 5),
        "head/bias": array(5),
    }
    for block, unit, width, m, projected in UNITS:
        path = f"block{block}/unit{unit:02d}"
        kernels = [(1, 1, width, m), (3, 3, m, m), (1, 1, m, 4 * m)]
        for number, kernel in enumerate(kernels, start=1):
            arrays[f"{path}/conv{number}/kernel"] = array(*kernel)
            for leaf in ("scale", "bias"):
                shape = (1, 1, 1, kernel[2])
                arrays[f"{path}/gn{number}/{leaf}"] = array(*shape)
        if projected:
            arrays[f"{path}/conv_proj/kernel"] = array(1, 1, width, 4 * m)
    return {f"params/{name}": value for name, value in arrays.items()} | {
        "opt/count": np.zeros(())  # left out
    }


def old_layout():
    """That of the first release of BiT."""
    arrays = {
        "resnet/root_block/standardized_conv2d/kernel": array(7, 7, 3, 4),
        "resnet/group_norm/gamma": array(32),
        "resnet/group_norm/beta": array(32),
        "resnet/head/conv2d/kernel": array(1, 1, 32, 5),
        "resnet/head/conv2d/bias": array(5),
    }
    for block, unit, width, m, projected in UNITS:
        path = f"resnet/block{block}/unit{unit:02d}"
        kernels = {"a": (1, 1, width, m), "b": (3, 3, m, m), "c": (1, 1, m, 4 * m)}
        for letter, kernel in kernels.items():
            # Some files count a graph's convolutions.
            layer = "standardized_conv2d" + ("_7" if letter == "b" else "")
            arrays[f"{path}/{letter}/{layer}/kernel"] = array(*kernel)
            for leaf in ("gamma", "beta"):
                arrays[f"{path}/{letter}/group_norm/{leaf}"] = array(kernel[2])
        if projected:
            name = f"{path}/a/proj/standardized_conv2d/kernel"
            arrays[name] = array(1, 1, width, 4 * m)
    return arrays


PLACES = {
    "params/root_block/conv_root/kernel": ("conv", "kernel"),
    "params/norm-pre-head/bias": ("gn", "bias"),
    "params/head/kernel": ("fc", "kernel"),
    "params/block2/unit01/gn3/scale": ("block_1_0", "gn_2", "scale"),
    "params/block1/unit02/conv1/kernel": ("block_0_1", "conv_0", "kernel"),
    "params/block2/unit01/conv_proj/kernel": ("block_1_0", "shortcut_conv", "kernel"),
    "resnet/block1/unit02/b/standardized_conv2d_7/kernel": (
        "block_0_1",
        "conv_1",
        "kernel",
    ),
    "resnet/block2/unit01/a/proj/standardized_conv2d/kernel": (
        "block_1_0",
        "shortcut_conv",
        "kernel",
    ),
    "resnet/group_norm/gamma": ("gn", "scale"),
    "resnet/block1/unit01/c/group_norm/beta": ("block_0_0", "gn_2", "bias"),
    "resnet/head/conv2d/kernel": ("fc", "kernel"),
}


@pytest.mark.parametrize("layout", [new_layout, old_layout])
def test_every_array_lands_in_its_place(layout, tmp_path):
    arrays = layout()
    np.savez(tmp_path / "bit.npz", **arrays)
    found = bit_weights.load(tmp_path / "bit.npz", SHAPES)["params"]
    assert jax.tree.structure(found) == jax.tree.structure(SHAPES["params"])
    count = 0
    for name, place in PLACES.items():
        if name in arrays:
            leaf = found
            for key in place:
                leaf = leaf[key]
            np.testing.assert_array_equal(leaf, arrays[name].reshape(leaf.shape))
            count += 1
    assert count >= 5
    total = sum(leaf.size for name, leaf in arrays.items() if name != "opt/count")
    assert total == sum(leaf.size for leaf in jax.tree.leaves(found))


def test_the_head_is_kept_for_other_classes(tmp_path):
    np.savez(tmp_path / "bit.npz", **new_layout())
    other = models.from_linen("bit", BiT((2, 1), (4, 8), 7, norm_groups=2))
    variables = other.init(jax.random.key(0), jnp.zeros((1, 16, 16, 3)))
    with pytest.raises(ValueError, match=r"num_classes=5, or load with head=.keep."):
        bit_weights.load(tmp_path / "bit.npz", variables)
    found = bit_weights.load(tmp_path / "bit.npz", variables, head="keep")
    assert found["params"]["fc"]["kernel"].shape == (32, 7)


@pytest.mark.parametrize("classes", [5, 7])
def test_a_head_that_is_only_a_shape_is_not_kept(classes, tmp_path):
    np.savez(tmp_path / "bit.npz", **new_layout())
    other = models.from_linen("bit", BiT((2, 1), (4, 8), classes, norm_groups=2))
    images = jnp.zeros((1, 16, 16, 3))
    shapes = jax.eval_shape(other.init, jax.random.key(0), images)
    with pytest.raises(
        ValueError, match=r"fc/\w+ must keep its value, but is only a shape"
    ):
        bit_weights.load(tmp_path / "bit.npz", shapes, head="keep")
    load = bit_weights.load.__wrapped__  # without the annotations' own check
    with pytest.raises(ValueError, match="unknown head 'kept'"):
        load(tmp_path / "bit.npz", shapes, head="kept")


def without(arrays):
    return {k: v for k, v in arrays.items() if "block1/unit02/conv2" not in k}


def with_more(arrays):
    return arrays | {"params/block3/unit01/conv1/kernel": array(1, 1, 1, 1)}


def foreign(arrays):
    return arrays | {"params/layer4/weight": array(2)}


def misshapen(arrays):
    return arrays | {"params/block1/unit01/conv2/kernel": array(3, 3, 4, 8)}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without, "lacks block_0_1/conv_1/kernel; create the network whose depth"),
        (with_more, "has, beyond this network, block_2_0/conv_0/kernel"),
        (foreign, "has 'layer4/weight', which is not an array of a BiT-ResNet"),
        (misshapen, r"conv_1/kernel as \[3, 3, 4, 8\], the network as \[3, 3, 4, 4\]"),
    ],
)
def test_other_files_are_refused(change, words, tmp_path):
    np.savez(tmp_path / "bit.npz", **change(new_layout()))
    with pytest.raises(ValueError, match=words):
        bit_weights.load(tmp_path / "bit.npz", SHAPES)


def test_pickles_are_refused(tmp_path):
    np.savez(tmp_path / "bit.npz", a=np.array([{}], object))
    with pytest.raises(ValueError, match=r"not an \.npz file of plain arrays"):
        bit_weights.load(tmp_path / "bit.npz", SHAPES)
