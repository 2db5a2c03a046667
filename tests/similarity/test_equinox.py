"""Activations of Equinox modules."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_heuristics import similarity

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
        # Inside a transformation of the model's own: not captured.
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
    names = "z_conv blocks/0 blocks/2/layers/0 blocks/2 a_shared a_shared#1 output"
    assert list(found) == [f"{i:02d}_{name}" for i, name in enumerate(names.split())]
    assert list(jax.jit(features)(IMAGES)) == list(found)
    maps = jax.vmap(model.z_conv)(IMAGES)
    np.testing.assert_allclose(found["00_z_conv"], jnp.moveaxis(maps, 1, -1), atol=1e-5)
    first = jax.vmap(model.blocks[0])(maps.mean((2, 3)))
    np.testing.assert_allclose(found["01_blocks/0"], first, atol=1e-5)
    np.testing.assert_allclose(found["06_output"], jax.vmap(model)(IMAGES), atol=1e-5)
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
