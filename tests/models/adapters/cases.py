"""One small network a library, and two steps of its training in the library's idiom."""

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from kd_heuristics import models, training

RANDOM = np.random.RandomState(0)
PIXELS = jnp.asarray(RANDOM.randint(0, 256, (8, 6, 6, 3)), jnp.uint8)
LABELS = jnp.asarray(RANDOM.randint(0, 3, 8), jnp.int32)
MEAN, STD = (120.0, 130.0, 110.0), (60.0, 70.0, 65.0)
IMAGES = (PIXELS.astype(jnp.float32) - jnp.array([[[MEAN]]])) / jnp.array([[[STD]]])
KEY = jax.random.key(3)
SEED, STEPS = 7, 2


def batches(seed, step):
    rows = jnp.arange(4) + 4 * (step % 2)
    return {"images": PIXELS[rows], "labels": LABELS[rows]}


def examples(step):
    rows = np.arange(4) + 4 * (step % 2)
    return IMAGES[rows], LABELS[rows]


def step_key(step):
    return jax.random.fold_in(jax.random.key(SEED), step)


def mean_cross_entropy(logits, labels):
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


OPTIMIZER = training.sgd(0.1, 0.9, weight_decay=0.1)


def optimizer(mask):
    """The same with another library's mask of what decays."""
    return optax.chain(
        optax.add_decayed_weights(0.1, mask=mask), optax.sgd(0.1, momentum=0.9)
    )


@dataclasses.dataclass(frozen=True)
class Case:
    """`by_hand() -> (params, batch_stats)` as the adapter should name them."""

    network: models.Network
    by_hand: Callable[[], tuple[Any, Any]]


class NNXNet(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(3, 4, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(4, momentum=0.8, rngs=rngs)
        self.dropouts = nnx.List([nnx.Dropout(0.4, rngs=rngs) for _ in range(2)])
        self.fc = nnx.Linear(4, 3, rngs=rngs)

    def __call__(self, images):
        x = self.dropouts[0](nnx.relu(self.norm(self.conv(images))))
        return self.fc(self.dropouts[1](x.mean((1, 2))))


def nnx_by_hand():
    model = NNXNet(nnx.Rngs(KEY))
    model.train()
    chain = nnx.Optimizer(model, optimizer(nnx_decays), wrt=nnx.Param)

    @nnx.jit
    def update(model, chain, images, labels):
        def loss(model):
            return mean_cross_entropy(model(images), labels)

        chain.update(model, nnx.grad(loss)(model))

    for step in range(STEPS):
        for index, dropout in enumerate(model.dropouts):
            dropout.rngs = nnx.RngStream(
                jax.random.fold_in(step_key(step), index), tag="dropout"
            )
        update(model, chain, *examples(step))
    params = {
        name: {key: getattr(module, key)[...] for key in keys}
        for name, module, keys in (
            ("conv", model.conv, ("kernel", "bias")),
            ("norm", model.norm, ("scale", "bias")),
            ("fc", model.fc, ("kernel", "bias")),
        )
    }
    norm = {"mean": model.norm.mean[...], "var": model.norm.var[...]}
    return params, {"norm": norm}


def nnx_decays(params):
    return nnx.map_state(lambda path, _: path[-1] == "kernel", params)


class EquinoxNet(eqx.Module):
    conv: eqx.nn.Conv2d
    norm: eqx.nn.BatchNorm
    dropout: eqx.nn.Dropout
    fc: eqx.nn.Linear

    def __init__(self, key):
        keys = jax.random.split(key)
        self.conv = eqx.nn.Conv2d(3, 4, 3, key=keys[0])
        self.norm = eqx.nn.BatchNorm(4, "batch", mode="batch", momentum=0.8)
        self.dropout = eqx.nn.Dropout(0.4)
        self.fc = eqx.nn.Linear(4, 3, key=keys[1])

    def __call__(self, image, state, *, key):
        features, state = self.hidden(image, state)
        x = features["01_bn"]
        x = self.dropout(jax.nn.relu(x).mean((1, 2)), key=key)
        return self.fc(x), state

    def hidden(self, image, state):
        x = self.conv(image)
        y, state = self.norm(x, state)
        return {"00_conv": x, "01_bn": y}, state


def equinox_by_hand():
    model, state = eqx.nn.make_with_state(EquinoxNet)(KEY)

    def decays(params):
        nothing = jax.tree.map(lambda _: False, params)
        return eqx.tree_at(
            lambda net: (net.conv.weight, net.fc.weight), nothing, (True, True)
        )

    chain = optimizer(decays)
    chain_state = chain.init(eqx.filter(model, eqx.is_inexact_array))

    @eqx.filter_jit
    def update(model, state, chain_state, images, labels, keys):
        def loss(model, state):
            logits, state = jax.vmap(
                lambda image, state, key: model(image, state, key=key),
                in_axes=(0, None, 0),
                out_axes=(0, None),
                axis_name="batch",
            )(images, state, keys)
            return mean_cross_entropy(logits, labels), state

        grads, state = eqx.filter_grad(loss, has_aux=True)(model, state)
        params = eqx.filter(model, eqx.is_inexact_array)
        updates, chain_state = chain.update(grads, chain_state, params)
        return eqx.apply_updates(model, updates), state, chain_state

    for step in range(STEPS):
        images, labels = examples(step)
        keys = jax.random.split(step_key(step), len(images))
        images = images.transpose(0, 3, 1, 2)
        model, state, chain_state = update(
            model, state, chain_state, images, labels, keys
        )
    params = {
        "conv": {"kernel": model.conv.weight, "bias": model.conv.bias},
        "norm": {"weight": model.norm.weight, "bias": model.norm.bias},
        "fc": {"kernel": model.fc.weight, "bias": model.fc.bias},
    }
    mean, var = state.get(model.norm.batch_state_index)
    norm = {
        "batch_counter": state.get(model.norm.batch_counter),
        "batch_state_index": {"0": mean, "1": var},
    }
    return params, {"state": {"norm": norm}}


def init(key, images):
    kernel = 0.1 * jax.random.normal(key, (images[0].size, 3))
    return {
        "params": {"fc": {"kernel": kernel, "bias": jnp.zeros(3)}},
        "batch_stats": {"mean": jnp.zeros(images[0].size)},
    }


def linear(params, mean, images):
    pixels = images.reshape(len(images), -1) - mean[None]
    return pixels @ params["fc"]["kernel"] + params["fc"]["bias"][None]


def apply(variables, images):
    return linear(variables["params"], variables["batch_stats"]["mean"], images)


def train(variables, images, key):
    images = images * jax.random.bernoulli(key, 0.6, images.shape)
    mean = images.reshape(len(images), -1).mean(0)
    moved = 0.8 * variables["batch_stats"]["mean"] + 0.2 * mean
    return linear(variables["params"], mean, images), {"mean": moved}


def functions_by_hand():
    variables = init(KEY, IMAGES)
    params, stats = variables["params"], variables["batch_stats"]
    velocity = jax.tree.map(jnp.zeros_like, params)

    @jax.jit
    def update(params, stats, velocity, images, labels, key):
        def loss(params):
            variables = {"params": params, "batch_stats": stats}
            logits, moved = train(variables, images, key)
            return mean_cross_entropy(logits, labels), moved

        grads, moved = jax.grad(loss, has_aux=True)(params)
        grads["fc"]["kernel"] += 0.1 * params["fc"]["kernel"]
        velocity = jax.tree.map(lambda v, g: 0.9 * v + g, velocity, grads)
        params = jax.tree.map(lambda p, v: p - 0.1 * v, params, velocity)
        return params, moved, velocity

    for step in range(STEPS):
        params, stats, velocity = update(
            params, stats, velocity, *examples(step), step_key(step)
        )
    return params, stats


CASES = {
    "nnx": Case(models.from_nnx("nnx_net", NNXNet), nnx_by_hand),
    "equinox": Case(
        models.from_equinox("equinox_net", EquinoxNet, features=EquinoxNet.hidden),
        equinox_by_hand,
    ),
    "functions": Case(
        models.from_functions("linear", init, apply, train=train), functions_by_hand
    ),
}
