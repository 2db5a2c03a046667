"""Which axes number the filters of a leaf, for layers of every library."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

from kd_heuristics import landscape, models
from kd_heuristics.pytrees import leaf_names
from tests.trees import TREES

KEY = jax.random.key(0)


class Block(linen.Module):
    """A transformer's: attention, two kernels and norms."""

    @linen.compact
    def __call__(self, x, _=None):
        y = linen.LayerNorm()(x)
        x = x + linen.MultiHeadDotProductAttention(2, use_bias=self.biased)(y)
        return linen.Dense(4, use_bias=self.biased)(linen.RMSNorm()(x)), None

    biased: bool = True


class Net(linen.Module):
    """Three blocks as one stack between two other layers."""

    biased: bool = True

    @linen.compact
    def __call__(self, x):
        stack = linen.scan(
            Block, variable_axes={"params": 0}, split_rngs={"params": True}, length=3
        )
        x = linen.Embed(5, 4)(x.astype(int)[..., 0]) + linen.Conv(4, (3,))(x)
        return linen.DenseGeneral((2, 5))(stack(self.biased, name="blocks")(x)[0])


def linen_net(biased=True):
    return Net(biased).init(KEY, jnp.ones((1, 6, 4)))["params"]


def nnx_net():
    class Layers(nnx.Module):
        def __init__(self, rngs):
            self.attention = nnx.MultiHeadAttention(
                2, 4, 6, rngs=rngs, decode=False, use_bias=True
            )
            self.norm = nnx.LayerNorm(4, rngs=rngs)

    @nnx.split_rngs(splits=3)
    @nnx.vmap(in_axes=0, out_axes=0)
    def stack(rngs):
        return Layers(rngs)

    class Both(nnx.Module):
        def __init__(self):
            rngs = nnx.Rngs(0)
            self.stacked, self.alone = stack(rngs), Layers(rngs)
            self.conv = nnx.Conv(2, 5, (3, 3), rngs=rngs)

    return nnx.state(Both(), nnx.Param)


class EquinoxNet(eqx.Module):
    conv: eqx.nn.Conv2d
    up: eqx.nn.ConvTranspose1d
    attention: eqx.nn.MultiheadAttention
    cell: eqx.nn.GRUCell
    embedding: eqx.nn.Embedding
    norm: eqx.nn.LayerNorm
    stacked: eqx.nn.Linear


def equinox_net():
    make = eqx.filter_vmap(lambda key: eqx.nn.Linear(4, 5, key=key))
    net = EquinoxNet(
        eqx.nn.Conv2d(2, 3, 3, key=KEY),
        eqx.nn.ConvTranspose1d(2, 3, 3, key=KEY),
        eqx.nn.MultiheadAttention(2, 4, key=KEY),
        eqx.nn.GRUCell(2, 3, key=KEY),
        eqx.nn.Embedding(4, 3, key=KEY),
        eqx.nn.LayerNorm((2, 3)),
        make(jax.random.split(KEY, 3)),
    )
    return eqx.filter(net, eqx.is_inexact_array)


def attention(prefix, depth=0):
    """Of Flax: kernels [in, heads, dim], and [heads, dim, out] at the end."""
    parts = dict.fromkeys(("query", "key", "value"), (depth + 1, depth + 2))
    parts["out"] = (depth + 2,)
    stack = tuple(range(depth))
    return {f"{prefix}/{part}/kernel": (stack, axes) for part, axes in parts.items()}


LINEN = {
    "Conv_0/kernel": ((), (2,)),
    "Embed_0/embedding": ((), (1,)),
    "DenseGeneral_0/kernel": ((), (1, 2)),
    "blocks/Dense_0/kernel": ((0,), (2,)),
    **attention("blocks/MultiHeadDotProductAttention_0", depth=1),
}
NNX = {
    "conv/kernel": ((), (3,)),
    **attention("alone/attention"),
    **attention("stacked/attention", depth=1),
}
EQUINOX = {
    "conv/weight": ((), (0,)),
    "up/weight": ((), (0,)),
    "cell/weight_ih": ((), (0,)),
    "cell/weight_hh": ((), (0,)),
    "embedding/weight": ((), (1,)),
    "stacked/weight": ((0,), (1,)),
    **{
        f"attention/{part}_proj/weight": ((), (0,))
        for part in ("query", "key", "value", "output")
    },
}


def boxed(tree):
    return jax.tree.map(lambda x: linen.Partitioned(x, (None,) * x.ndim), tree)


NETS = {
    "linen": (linen_net, LINEN),
    "linen without biases": (lambda: linen_net(biased=False), LINEN),
    "linen in boxes": (lambda: boxed(linen_net()), LINEN),
    "nnx": (nnx_net, NNX),
    "nnx pure": (lambda: nnx.to_pure_dict(nnx_net()), NNX),
    "equinox": (equinox_net, EQUINOX),
}
nets = pytest.mark.parametrize("name", NETS)


def noisy(tree):
    """No two filters of one length."""
    leaves, structure = jax.tree.flatten(tree)
    keys = jax.random.split(KEY, len(leaves))
    drawn = [
        jax.random.normal(key, x.shape) * jnp.exp(jax.random.normal(key, x.shape))
        for key, x in zip(keys, leaves, strict=True)
    ]
    return structure.unflatten(drawn)


def lengths(leaf, own):
    others = tuple(k for k in range(leaf.ndim) if k not in own)
    return np.sqrt(np.square(np.asarray(leaf, np.float64)).sum(others))


def rows(*parts):
    """(name, leaf of each tree) of trees that are alike."""
    leaves = [jax.tree.leaves(tree) for tree in parts]
    return zip(leaf_names.names(parts[0]), *leaves, strict=True)


@nets
@pytest.mark.parametrize("norm", ["filter", "layer", "unit_filter", "unit_layer"])
def test_the_ratio_is_1_for_each_filter_and_layer(name, norm):
    make, axes = NETS[name]
    params = noisy(make())
    found = landscape.random_direction(KEY, params, norm)
    seen = set()
    for leaf, d, w in rows(found, params):
        if leaf not in axes:
            assert not d.any(), leaf
            continue
        seen.add(leaf)
        layers, filters = axes[leaf]
        own = layers + (filters if "filter" in norm else ())
        target = 1 if norm.startswith("unit") else lengths(w, own)
        np.testing.assert_allclose(lengths(d, own) / target, 1, rtol=1e-5)
    assert seen == set(axes)


@nets
def test_biases_and_norms_move_with_their_weights_if_asked(name):
    make, axes = NETS[name]
    params = noisy(make())
    found = landscape.random_direction(KEY, params, vectors="weights")
    for leaf, d, w in rows(found, params):
        assert (np.asarray(d) == np.asarray(w)).all() == (leaf not in axes)


def test_what_a_filter_is_can_be_said():
    params = noisy(
        {"layers": {"kernel": jnp.ones((4, 3, 5)), "gain": jnp.ones((3, 5))}}
    )

    def along_the_middle(name, shape):
        if name == "layers/gain":
            return None
        assert (name, shape) == ("layers/kernel", (4, 3, 5))
        return landscape.FilterAxes(filters=(-1,), layers=(1,))

    for norm, own in ("filter", (1, 2)), ("layer", (1,)):
        found = landscape.random_direction(
            KEY, params, norm, filter_axis=along_the_middle
        )["layers"]
        assert not found["gain"].any()
        kernel = params["layers"]["kernel"]
        ratio = lengths(found["kernel"], own) / lengths(kernel, own)
        np.testing.assert_allclose(ratio, 1, rtol=1e-5)


def test_the_adapter_says_where_filters_of_equinox_lie():
    class Net(eqx.Module):
        conv: eqx.nn.Conv2d

        def __init__(self, key):
            self.conv = eqx.nn.Conv2d(1, 3, 3, key=key)

        def __call__(self, image):
            return self.conv(image).mean((1, 2))

    network = models.from_equinox("net", Net)
    params = noisy(network.init(KEY, jnp.ones((1, 5, 5, 1)))["params"])
    found = landscape.random_direction(KEY, params, filter_axis=network.filter_axis)
    kernel, bias = found["conv"]["kernel"], found["conv"]["bias"]
    assert bias.ndim == 3
    assert not bias.any()
    ratio = lengths(kernel, (0,)) / lengths(params["conv"]["kernel"], (0,))
    np.testing.assert_allclose(ratio, 1, rtol=1e-5)
    assert models.create("shallow", 10).filter_axis is None


@pytest.mark.parametrize("name", TREES)
def test_every_container_has_the_same_filters(name):
    expected = landscape.random_direction(KEY, TREES["dict"])
    found = landscape.random_direction(KEY, TREES[name])
    assert jax.tree.structure(found) == jax.tree.structure(TREES[name])
    for x, y in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize(
    ("params", "axis", "words"),
    [
        # Five layers with five inputs each, or one with outputs [5, 5].
        (
            {"fc": {"kernel": jnp.ones((5, 5, 5)), "bias": jnp.ones((5, 5))}},
            None,
            r"leaf 'fc/kernel' of shape \(5, 5, 5\) may be a stack .* filter_axis=",
        ),
        ({"kernel": jnp.ones((5, 5))}, 2, r"'kernel' of shape \(5, 5\) has no axis 2"),
        (
            {"kernel": jnp.ones((5, 5))},
            lambda name, shape: landscape.FilterAxes((0,), (-3,)),
            "has no axis -3",
        ),
    ],
)
def test_what_cannot_be_told_is_refused(params, axis, words):
    with pytest.raises(ValueError, match=words):
        landscape.random_direction(KEY, params, filter_axis=axis)
