"""What an adapter refuses, and what it leaves alone."""

import re
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from kd_heuristics import models
from tests.models.adapters import cases
from tests.models.adapters.cases import IMAGES, KEY


class Bare(nnx.Module):
    pass


class BareEquinox(eqx.Module):
    weight: jax.Array


class Pixels(nnx.Module):
    """Returns its images."""

    def __call__(self, images):
        return images


class PixelsEquinox(eqx.Module):
    def __call__(self, image):
        return image


class Table(nnx.Module):
    def __init__(self, rngs):
        self.table = jnp.arange(3.0)

    def __call__(self, images):
        return images.mean((1, 2)) + self.table[None]


@pytest.mark.parametrize(
    ("adapter", "make", "words"),
    [
        (models.from_nnx, lambda rngs: Bare(), "nnx.Module with a __call__ .* Bare"),
        (models.from_nnx, lambda rngs: 3, "nnx.Module with a __call__ .* got int"),
        (models.from_nnx, Table, "table is an array .* nnx.Variable"),
        (
            models.from_equinox,
            lambda key: BareEquinox(jax.random.normal(key)),
            "eqx.Module with a __call__ .* BareEquinox",
        ),
        (models.from_equinox, lambda key: abs, "eqx.Module .* got builtin_function"),
    ],
)
def test_modules_that_are_none(adapter, make, words):
    with pytest.raises(ValueError, match=words):
        adapter("net", make)


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (
            models.from_nnx("net", lambda rngs: Pixels()),
            "net must return logits, float [batch, classes], for images [8, 6, 6, 3]; "
            "it returned [8, 6, 6, 3]",
        ),
        (
            models.from_equinox("net", lambda key: PixelsEquinox()),
            "it returned [8, 3, 6, 6]",
        ),
        (
            models.from_functions("net", cases.init, lambda v, x: x.sum((1, 2, 3))),
            "it returned [8]",
        ),
        (
            models.from_functions("net", cases.init, lambda v, x: jnp.ones((1, 3))),
            "it returned [1, 3]",
        ),
        (
            models.from_functions("net", cases.init, lambda v, x: (x, x)),
            "it returned a tuple",
        ),
        (
            models.from_functions(
                "net", cases.init, lambda v, x: jnp.ones((8, 3), int)
            ),
            "it returned int32[8, 3]",
        ),
        (
            models.from_functions("net", lambda key, x: jnp.ones(3), cases.apply),
            'the init of net must return {"params": tree}',
        ),
        (
            models.from_functions("net", lambda key, x: {"w": 1}, cases.apply),
            "it returned the keys ['w']",
        ),
    ],
)
def test_what_is_no_classifier(network, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        network.init(KEY, IMAGES)


@pytest.mark.parametrize("name", ["nnx", "equinox"])
def test_images_and_variables_of_another_kind(name):
    network = cases.CASES[name].network
    variables = network.init(KEY, IMAGES)
    with pytest.raises(ValueError, match="a single image needs a batch axis"):
        network.apply(variables, IMAGES[0])
    with pytest.raises(ValueError, match="images must be floating-point, got uint8"):
        network.train(variables, cases.PIXELS, KEY)
    other = {**variables, "params": {**variables["params"]}}
    del other["params"]["norm"]
    with pytest.raises(ValueError, match="'norm/bias' is missing; give what"):
        network.apply(other, IMAGES)
    other["params"] = {**variables["params"], "head": jnp.ones(3)}
    with pytest.raises(ValueError, match="'head' is unknown"):
        network.apply(other, IMAGES)


def test_equinox_is_asked_for_by_name(monkeypatch):
    monkeypatch.setitem(sys.modules, "equinox", None)
    with pytest.raises(ImportError, match="pip install equinox"):
        models.from_equinox("net", cases.EquinoxNet)


def test_a_trained_nnx_module_serves_and_stays_as_it_is():
    module = cases.NNXNet(nnx.Rngs(5))
    nnx.jit(cases.NNXNet.__call__)(module, IMAGES)  # its running statistics move
    kept = nnx.Param, nnx.BatchStat
    before = nnx.to_pure_dict(nnx.state(module, kept))
    network = models.from_nnx("trained", lambda rngs: module)
    variables = network.init(KEY, IMAGES)
    jax.jit(network.train)(variables, IMAGES, KEY)
    logits = jax.jit(network.apply)(variables, IMAGES)
    after = nnx.to_pure_dict(nnx.state(module, kept))
    jax.tree.map(np.testing.assert_array_equal, before, after)
    assert not module.norm.use_running_average  # still in training mode
    module.eval()
    np.testing.assert_allclose(
        logits, nnx.jit(cases.NNXNet.__call__)(module, IMAGES), rtol=1e-5, atol=1e-6
    )


class TwoDropouts(nnx.Module):
    """The difference of two dropouts: 0 wherever they draw alike."""

    def __init__(self, rngs):
        self.first = nnx.Dropout(0.5, rngs=rngs)
        self.second = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, images):
        ones = jnp.ones((len(images), 40))
        return self.first(ones) - self.second(ones)


def test_each_dropout_has_a_key_of_its_own():
    network = models.from_nnx("two", TwoDropouts)
    variables = network.init(KEY, IMAGES)
    assert variables == {"params": {}}
    logits, batch_stats = network.train(variables, IMAGES, KEY)
    # 0 for half of the 320; five standard deviations
    assert abs(np.mean(np.asarray(logits) == 0) - 0.5) < 5 * 0.5 / np.sqrt(320)
    assert batch_stats == {}
    assert not network.apply(variables, IMAGES).any()


class WithBuffer(eqx.Module):
    """Linear in shifted pixels; the shift is an array of integers."""

    fc: eqx.nn.Linear
    shift: jax.Array

    def __init__(self, key):
        self.fc = eqx.nn.Linear(108, 3, key=key)
        self.shift = jnp.arange(108)

    def __call__(self, image):
        return self.fc(image.ravel() + self.shift)


def test_equinox_integers_are_no_parameters_and_layouts_differ():
    networks = [
        models.from_equinox("net", WithBuffer, channels_first=first)
        for first in (True, False)
    ]
    variables = networks[0].init(KEY, IMAGES)
    assert list(variables["params"]) == ["fc"]
    logits, batch_stats = networks[0].train(variables, IMAGES, KEY)
    jax.tree.map(np.testing.assert_array_equal, batch_stats, variables["batch_stats"])
    fc = jax.tree.map(np.asarray, variables["params"]["fc"])
    pixels = np.asarray(IMAGES)
    for network, order in zip(networks, [(0, 3, 1, 2), (0, 1, 2, 3)], strict=True):
        flat = pixels.transpose(order).reshape(8, -1) + np.arange(108)
        expected = flat @ fc["kernel"].T + fc["bias"]
        # sums of 108 terms up to 100
        logits = network.apply(variables, IMAGES)
        np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)
