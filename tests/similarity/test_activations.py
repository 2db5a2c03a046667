"""Activations of every kind of model, and streaming them over a data set."""

import warnings

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from kd_heuristics import models, similarity

IMAGES = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32)


class Block(nn.Module):
    width: int

    @nn.compact
    def __call__(self, x):
        return nn.relu(nn.Dense(self.width)(x))


class Linen(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        twice = Block(6, name="a_shared")
        for _ in range(2):
            x = twice(x)
        x = nn.Dropout(0.5, deterministic=not train)(x)
        for width in (5, 4):
            x = Block(width)(x)
        return nn.Dense(3, name="B_last")(x)


class Inner(nn.Module):
    @nn.compact
    def __call__(self, x):
        # The names sort the other way round than the calls.
        return nn.Dense(4, name="a")(nn.relu(nn.Dense(5, name="z")(x)))


class Transformed(nn.Module):
    """What Flax's transformations hide inside one operation, and names of ours."""

    train: bool = False

    def features(self, x):
        return {"not": "ours"}

    @nn.compact
    def __call__(self, x):
        x = nn.remat(Inner)(name="remat")(x)
        x = nn.jit(Inner)(name="jit")(x)
        x = nn.BatchNorm(use_running_average=not self.train)(x)
        self.sow("intermediates", "negative", -x)
        stacked = nn.vmap(
            nn.Dense,
            in_axes=None,
            axis_size=3,
            variable_axes={"params": 0, "intermediates": 0},
            split_rngs={"params": True},
        )(4, name="stacked")(x)
        return {"sum": jnp.sum(stacked, 0), "scalar": jnp.sum(x)}


class NNX(nnx.Module):
    def __init__(self, rngs):
        # The names sort the other way round than the calls.
        self.z_first = nnx.Linear(6, 5, rngs=rngs)
        self.a_second = nnx.Linear(5, 4, rngs=rngs)

    def __call__(self, x):
        return jnp.tanh(self.a_second(nnx.relu(self.z_first(x))))


LINEN = Linen(), Linen().init(jax.random.key(0), IMAGES[:1])


def test_linen_outputs_in_the_order_of_the_calls():
    features = similarity.capture(*LINEN, train=False)
    found = features(IMAGES)
    assert list(found) == [
        "00_a_shared/Dense_0",
        "01_a_shared",
        "02_a_shared/Dense_0#1",
        "03_a_shared#1",
        "04_Dropout_0",
        "05_Block_0/Dense_0",
        "06_Block_0",
        "07_Block_1/Dense_0",
        "08_Block_1",
        "09_B_last",
        "10_output",
    ]
    model, variables = LINEN
    np.testing.assert_array_equal(found["10_output"], model.apply(variables, IMAGES))
    dense = variables["params"]["a_shared"]["Dense_0"]
    np.testing.assert_allclose(
        found["00_a_shared/Dense_0"],
        IMAGES @ dense["kernel"] + dense["bias"][None, :],
        atol=1e-5,
    )
    compiled = jax.jit(features)(IMAGES)
    assert list(compiled) == list(found)
    for name, value in found.items():
        np.testing.assert_allclose(compiled[name], value, atol=1e-5, err_msg=name)


def test_linen_transformations_and_what_is_not_examples_by_units():
    model = Transformed()

    def run(images):
        variables = model.init(jax.random.key(0), images)
        return similarity.capture(model, variables)(images)

    assert list(jax.eval_shape(run, IMAGES)) == [
        "00_remat/z",
        "01_remat/a",
        "02_remat",
        "03_jit/z",
        "04_jit/a",
        "05_jit",
        "06_BatchNorm_0",
        "07_negative",
        "08_stacked[0]",  # layers of a vmap are taken apart, as those of a scan
        "09_stacked[1]",
        "10_stacked[2]",
        "11_output#1",  # keys of a dictionary are sorted: "scalar" is the first
    ]


def test_chosen_layers_are_numbered_among_themselves():
    features = similarity.capture(*LINEN, include=lambda name: "Dense" not in name)
    names = list(features(IMAGES))
    assert names[0] == "00_a_shared"
    assert names[-1] == "06_output"
    nothing = similarity.capture(*LINEN, include=lambda name: name == "conv")
    with pytest.raises(ValueError, match="no activation was captured; there are a_sha"):
        nothing(IMAGES)


def test_new_variables_compile_nothing_anew():
    model, variables = LINEN
    traces = []

    @jax.jit
    def first(features, images):
        traces.append(1)
        return features(images)["00_a_shared/Dense_0"]

    one = first(similarity.capture(model, variables), IMAGES)
    other = jax.tree.map(lambda x: 2 * x, variables)
    two = first(similarity.capture(model, other), IMAGES)
    np.testing.assert_allclose(two, 2 * one, atol=1e-5)
    assert len(traces) == 1


@pytest.mark.skipif(not hasattr(nnx, "capture"), reason="this Flax has no nnx.capture")
def test_nnx_outputs_in_the_order_of_the_calls():
    model = NNX(nnx.Rngs(0))
    features = similarity.capture(model)
    found = jax.jit(features)(IMAGES)
    assert list(found) == ["00_z_first", "01_a_second", "02_output"]
    np.testing.assert_allclose(found["02_output"], model(IMAGES), atol=1e-5)
    hidden = model.a_second(nnx.relu(found["00_z_first"]))
    np.testing.assert_allclose(found["01_a_second"], hidden, atol=1e-5)


def test_nnx_of_a_flax_without_capture_gives_what_is_sown(monkeypatch):
    class Sowing(NNX):
        def __call__(self, x):
            hidden = nnx.relu(self.z_first(x))
            self.sow(nnx.Intermediate, "hidden", hidden)
            return self.a_second(hidden)

    monkeypatch.delattr(nnx, "capture", raising=False)
    model = Sowing(nnx.Rngs(0))
    with warnings.catch_warnings():
        # Newer versions want sowing inside nnx.capture.
        warnings.simplefilter("ignore", DeprecationWarning)
        found = similarity.capture(model)(IMAGES)
    assert list(found) == ["00_hidden"]
    np.testing.assert_array_equal(found["00_hidden"], nnx.relu(model.z_first(IMAGES)))


def test_our_networks_give_their_features():
    network = models.create("vgg11", 10, width=0.0625, classifier_width=16)
    images = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)
    variables = jax.eval_shape(network.init, jax.random.key(0), images)

    def shapes(variables, images):
        return similarity.capture(network, variables)(images)

    found = jax.eval_shape(shapes, variables, images)
    expected = jax.eval_shape(network.features, variables, images)
    assert {k: v.shape for k, v in found.items()} == {
        k: v.shape for k, v in expected.items()
    }
    assert next(iter(found)).startswith("00_")


def test_functions_and_what_is_none():
    whole = similarity.capture(lambda images: {"double": 2 * images})
    np.testing.assert_array_equal(whole(IMAGES)["double"], 2 * IMAGES)
    with pytest.raises(ValueError, match="must return a dictionary"):
        similarity.capture(lambda images: images)(IMAGES)
    with pytest.raises(TypeError, match="activations of a int"):
        similarity.capture(3)
