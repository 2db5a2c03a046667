"""Activations of Equinox modules."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_heuristics import models, similarity

KEYS = jax.random.split(jax.random.key(0), 6)
IMAGES = np.random.default_rng(0).normal(size=(20, 3, 6, 5)).astype(np.float32)


class Net(eqx.Module):
    # The names sort the other way round than the calls.
    z_conv: eqx.nn.Conv2d
    blocks: list
    a_shared: eqx.nn.Linear

    def __init__(self, scale=1.0):
        self.z_conv = eqx.nn.Conv2d(3, 4, 3, key=KEYS[0])
        inner = eqx.nn.Sequential([eqx.nn.Linear(5, 5, key=KEYS[1])])
        self.blocks = [eqx.nn.Linear(4, 5, key=KEYS[2]), jax.nn.relu, inner]
        self.a_shared = eqx.nn.Linear(5, 5, key=KEYS[3])

    def __call__(self, image):
        x = self.z_conv(image).mean((1, 2))
        for block in self.blocks:
            x = block(x)
        x = self.a_shared(self.a_shared(x))
        return x + jax.vmap(self.a_shared)(jnp.stack([x, -x])).sum(0)


class Stateful(eqx.Module):
    linear: eqx.nn.Linear
    norm: eqx.nn.BatchNorm

    def __init__(self, key):
        self.linear = eqx.nn.Linear(3, 4, key=key)
        self.norm = eqx.nn.BatchNorm(4, "batch", mode="ema")

    def __call__(self, x, state):
        return self.norm(self.linear(x), state)


def test_submodules_in_the_order_of_the_calls():
    model = Net()
    features = similarity.capture(model)
    found = features(IMAGES)
    names = "z_conv blocks/0 blocks/2/layers/0 blocks/2 a_shared a_shared#1 a_shared#2"
    names = [*names.split(), "output"]
    assert list(found) == [f"{i:02d}_{name}" for i, name in enumerate(names)]
    assert list(jax.jit(features)(IMAGES)) == list(found)
    maps = jax.vmap(model.z_conv)(IMAGES)
    np.testing.assert_allclose(found["00_z_conv"], jnp.moveaxis(maps, 1, -1), atol=1e-5)
    first = jax.vmap(model.blocks[0])(maps.mean((2, 3)))
    np.testing.assert_allclose(found["01_blocks/0"], first, atol=1e-5)
    np.testing.assert_allclose(found["07_output"], jax.vmap(model)(IMAGES), atol=1e-5)
    only = similarity.capture(model, include=lambda name: "blocks" in name)
    assert len(only(IMAGES)) == 3


def test_other_weights_compile_nothing_anew():
    one = Net()
    other = jax.tree.map(lambda x: 2 * x if eqx.is_array(x) else x, one)
    a, b = similarity.capture(one), similarity.capture(other)
    assert jax.tree.structure(a) == jax.tree.structure(b)
    value = similarity.stream_matrix(a, b, IMAGES, "cka", batch_size=8, conv="mean")
    expected = similarity.matrix(a(IMAGES), b(IMAGES), "cka", "mean")
    np.testing.assert_allclose(value, expected, atol=1e-4)


def test_a_module_with_state():
    model, state = eqx.nn.make_with_state(Stateful)(KEYS[0])
    x = IMAGES[:, :, 0, 0]
    model = eqx.nn.inference_mode(model)
    found = similarity.capture(model, state)(x)
    expected, _ = jax.vmap(model, (0, None), (0, None))(x, state)
    np.testing.assert_allclose(found["02_output"], expected, atol=1e-6)
    assert list(found) == ["00_linear", "01_norm", "02_output"]


@pytest.mark.parametrize("wrap", [eqx.filter_jit, eqx.Partial])
def test_a_wrapped_function_is_a_function(wrap):
    found = similarity.capture(wrap(lambda x: {"flat": x.reshape(len(x), -1)}))(IMAGES)
    assert found["flat"].shape == (20, 90)


class Block(eqx.Module):
    norm: eqx.nn.LayerNorm
    linear: eqx.nn.Linear

    def __init__(self, key):
        self.norm = eqx.nn.LayerNorm(4)
        self.linear = eqx.nn.Linear(4, 4, key=key)

    def __call__(self, x):
        # Tokens in the middle of vmap's axes, and out of order.
        normed = jax.vmap(self.norm, in_axes=1, out_axes=1)(x.T)
        return x + jax.vmap(self.linear, in_axes=1)(normed)


class Layers(eqx.Module):
    """Four blocks, called by one of the ways that Equinox's users take."""

    embed: eqx.nn.Linear
    blocks: Block
    last: eqx.nn.Linear
    how: str = eqx.field(static=True)

    def __init__(self, key, how):
        keys = jax.random.split(key, 3)
        self.embed = eqx.nn.Linear(5, 4, key=keys[0])
        self.blocks = eqx.filter_vmap(Block)(jax.random.split(keys[1], 4))
        self.last = eqx.nn.Linear(4, 3, key=keys[2])
        self.how = how

    def __call__(self, tokens):
        arrays, static = eqx.partition(self.blocks, eqx.is_array)

        def step(x, block):
            return eqx.combine(block, static)(x), None

        if self.how == "checkpoint":
            step = jax.checkpoint(step)
        x = jax.vmap(self.embed)(tokens)
        if self.how == "loop":
            for i in range(4):
                x, _ = step(x, jax.tree.map(lambda leaf, i=i: leaf[i], arrays))
        elif self.how == "jit":
            x = eqx.filter_jit(lambda x: jax.lax.scan(step, x, arrays)[0])(x)
        else:
            x, _ = jax.lax.scan(step, x, arrays)
        return self.last(x.mean(0))


TOKENS = np.random.default_rng(1).normal(size=(4, 3, 5)).astype(np.float32)


@pytest.mark.parametrize("how", ["scan", "checkpoint", "jit"])
def test_layers_under_vmap_and_scan_come_apart(how):
    looped, scanned = (Layers(KEYS[0], each) for each in ("loop", how))
    found = similarity.capture(scanned)(TOKENS)  # as many examples as layers
    block = ("blocks/norm", "blocks/linear", "blocks")
    by_layer = [f"{name}[{i}]" for i in range(4) for name in block]
    names = ["embed", *by_layer, "last", "output"]
    assert list(found) == [f"{i:02d}_{name}" for i, name in enumerate(names)]
    expected = similarity.capture(looped)(TOKENS)
    for name, value in zip(found, expected.values(), strict=True):
        np.testing.assert_allclose(found[name], value, atol=1e-6, err_msg=name)
    assert found["02_blocks/linear[0]"].shape == (4, 3, 4)


def test_an_adapted_module_has_the_same_layers_and_their_derivatives():
    network = models.from_equinox(
        "layers", lambda key: Layers(key, "scan"), inputs="any"
    )
    variables = network.init(KEYS[0], TOKENS)
    found = network.features(variables, TOKENS)
    expected = similarity.capture(Layers(KEYS[0], "loop"))(TOKENS)
    assert len(found) == len(expected) == 15
    for value, own in zip(found.values(), expected.values(), strict=True):
        np.testing.assert_allclose(value, own, atol=1e-6)

    def total(params, capture):
        given = {"params": params}, TOKENS, KEYS[1]
        if capture:
            return network.train_features(*given)[0]["14_output"].sum()
        return network.train(*given)[0].sum()

    both = [jax.grad(total)(variables["params"], capture) for capture in (True, False)]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), *both)


class Branches(eqx.Module):
    inner: eqx.nn.Linear

    def __call__(self, x):
        return jax.lax.cond(x[0] > 0, lambda x: self.inner(x), jnp.cos, x)


def test_what_a_branch_calls_is_left_out():
    model = Branches(eqx.nn.Linear(3, 3, key=KEYS[0]))
    assert list(similarity.capture(model)(IMAGES[:, :, 0, 0])) == ["00_output"]


class Energy(eqx.Module):
    inner: eqx.nn.Linear

    def __call__(self, x):
        return jax.grad(lambda x: jnp.tanh(self.inner(x)).sum())(x)


def test_layers_of_a_model_that_takes_derivatives():
    model = Energy(eqx.nn.Linear(3, 4, key=KEYS[0]))
    found = similarity.capture(model)(IMAGES[:, :, 0, 0])
    expected = jax.vmap(model.inner)(IMAGES[:, :, 0, 0])
    np.testing.assert_allclose(found["00_inner"], expected, atol=1e-6)
    expected = jax.vmap(model)(IMAGES[:, :, 0, 0])
    np.testing.assert_allclose(found["01_output"], expected, atol=1e-6)
