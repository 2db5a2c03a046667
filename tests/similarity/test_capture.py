"""What `capture` finds of tokens, heads, stacked layers and plain functions."""

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from kd_heuristics import models, similarity

TOKENS = jnp.arange(12).reshape(3, 4) % 5


class Attention(nn.Module):
    @nn.compact
    def __call__(self, tokens):
        x = nn.Embed(5, 6, name="embed")(tokens)
        return nn.MultiHeadDotProductAttention(2, name="attention")(x)


class NnxAttention(nnx.Module):
    def __init__(self, rngs):
        self.embed = nnx.Embed(5, 6, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(2, 6, decode=False, rngs=rngs)

    def __call__(self, tokens):
        return self.attention(self.embed(tokens))


def linen_attention():
    model = Attention()
    return similarity.capture(model, model.init(jax.random.key(0), TOKENS))


def nnx_attention():
    return similarity.capture(NnxAttention(nnx.Rngs(0)))


@pytest.mark.parametrize("make", [linen_attention, nnx_attention])
def test_heads_lie_side_by_side(make):
    found = jax.jit(make())(TOKENS)
    assert {array.shape for array in found.values()} == {(3, 4, 6)}
    names = [name.partition("_")[2] for name in found]
    heads = {"attention/query", "attention/key", "attention/value"}
    # In the order of computation, though they are put together at the end.
    assert names[0] == "embed"
    assert heads == {*names[1:4]}
    assert names[-1] == "output"
    assert {*similarity.treatments(found).values()} == {"mean"}


class Block(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        return x + nn.Dense(4, name="dense")(jnp.tanh(x)), None


@pytest.mark.parametrize("layers", [2, 3])  # also as many as examples
def test_layers_of_a_scan_come_apart(layers):
    class Stack(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.Dense(4, name="first")(x)
            axes = {"params": 0, "intermediates": 0}
            scan = nn.scan(
                Block, variable_axes=axes, split_rngs={"params": True}, length=layers
            )
            x, _ = scan(name="blocks")(x, None)
            return nn.Dense(2, name="last")(x)

    model = Stack()
    x = jax.random.normal(jax.random.key(1), (3, 4))
    variables = model.init(jax.random.key(0), x)
    found = similarity.capture(model, variables)(x)
    names = [name.partition("_")[2] for name in found]
    inside = [f"blocks/dense[{i}]" for i in range(layers)]
    assert [name for name in names if "dense" in name] == inside
    assert names.index("first") < names.index(inside[0])
    assert names.index(inside[-1]) < names.index("last")
    params = jax.device_get(variables["params"])
    h = np.asarray(x) @ params["first"]["kernel"] + params["first"]["bias"]
    dense = params["blocks"]["dense"]
    for index, name in enumerate(inside):
        own = np.tanh(h) @ dense["kernel"][index] + dense["bias"][index]
        (value,) = (v for k, v in found.items() if k.endswith(name))
        np.testing.assert_allclose(value, own, rtol=1e-5, atol=1e-6)
        h = h + own


def test_a_plain_function_marks_its_layers():
    def net(params, x):
        for kernel in params:
            x = checkpoint_name(jax.nn.relu(x @ kernel), "layer")
        return checkpoint_name(x.mean(1, keepdims=True), "mean")

    params = [jnp.ones((4, 4)), 2 * jnp.ones((4, 4))]
    x = jnp.arange(8.0).reshape(2, 4)
    for features in (
        similarity.capture(net, params),
        similarity.capture(lambda x: net(params, x)),
    ):
        found = jax.jit(features)(x)
        assert list(found) == ["00_layer", "01_layer#1", "02_mean"]
        first = np.maximum(np.asarray(x) @ np.ones((4, 4)), 0)
        np.testing.assert_allclose(found["00_layer"], first)
        np.testing.assert_allclose(found["01_layer#1"], first @ (2 * np.ones((4, 4))))
    with pytest.raises(ValueError, match=r"mark them by jax\.ad_checkpoint"):
        similarity.capture(lambda x: x + 1)(x)


class Linen(nn.Module):
    @nn.compact
    def __call__(self, images, train):
        x = nn.Conv(3, (3, 3), name="conv")(images)
        x = nn.BatchNorm(use_running_average=not train, name="norm")(x)
        x = nn.Dropout(0.5, deterministic=not train)(x)
        return nn.Dense(2, name="fc")(x.mean((1, 2)))


class Eqx(eqx.Module):
    conv: eqx.nn.Conv2d
    norm: eqx.nn.BatchNorm
    drop: eqx.nn.Dropout
    fc: eqx.nn.Linear

    def __init__(self, key):
        keys = jax.random.split(key)
        self.conv = eqx.nn.Conv2d(1, 3, 3, padding=1, key=keys[0])
        self.norm = eqx.nn.BatchNorm(3, "batch", mode="batch")
        self.drop = eqx.nn.Dropout(0.5)
        self.fc = eqx.nn.Linear(3, 2, key=keys[1])

    def __call__(self, image, state, key):
        x, state = self.norm(self.conv(image), state)
        return self.fc(self.drop(x, key=key).mean((1, 2))), state


@pytest.mark.parametrize(
    "network",
    [models.from_linen("net", Linen()), models.from_equinox("net", Eqx)],
    ids=["linen", "equinox"],
)
def test_networks_show_their_layers_without_written_features(network):
    images = jax.random.normal(jax.random.key(1), (4, 5, 5, 1))
    variables = network.init(jax.random.key(0), images)
    found = jax.jit(network.features)(variables, images)
    names = [name.partition("_")[2] for name in found]
    assert [n for n in names if n in ("conv", "norm", "fc")] == ["conv", "norm", "fc"]
    shapes = {name.partition("_")[2]: value.shape for name, value in found.items()}
    assert shapes["conv"] == shapes["norm"] == (4, 5, 5, 3)
    last = list(found.values())[-1]
    np.testing.assert_allclose(last, network.apply(variables, images), rtol=1e-5)
    # In training mode: the batch's statistics, the same dropout, and gradients.
    key = jax.random.key(2)
    logits, stats = network.train(variables, images, key)
    own, same = jax.jit(network.train_features)(variables, images, key)
    assert list(own) == list(found)
    np.testing.assert_allclose(list(own.values())[-1], logits, rtol=1e-5, atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), stats, same)
    norm = own[next(name for name in own if name.endswith("_norm"))]
    np.testing.assert_allclose(norm.mean((0, 1, 2)), 0, atol=1e-5)

    def hint(params):
        given = variables | {"params": params}
        conv, *_ = network.train_features(given, images, key)[0].values()
        return (conv**2).sum()

    slope = jax.grad(hint)(variables["params"])
    assert float(jnp.abs(slope["conv"]["kernel"]).max()) > 0


def language_model(key_or_rngs):
    return NnxAttention(key_or_rngs)


def test_tokens_go_through_an_adapter_that_takes_any_input():
    network = models.from_nnx("lm", language_model, inputs="any")
    variables = network.init(jax.random.key(0), TOKENS)
    assert network.apply(variables, TOKENS).shape == (3, 4, 6)
    with pytest.raises(ValueError, match='make the network with inputs="any"'):
        models.from_nnx("lm", language_model).init(jax.random.key(0), TOKENS)
    with pytest.raises(ValueError, match="unknown inputs"):
        models.from_nnx("lm", language_model, inputs="token")
