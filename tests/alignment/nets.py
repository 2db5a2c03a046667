"""Small networks with known symmetries: ours, NNX, Equinox and plain functions."""

import itertools
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from kd_heuristics import models

KEY = jax.random.key(0)


class Net(NamedTuple):
    """A network: `apply`, its variables, and a batch of inputs."""

    apply: Any
    variables: Any
    images: jax.Array


def normal(*shape, seed=0):
    drawn = np.random.default_rng(seed).normal(size=shape) / max(1, shape[0]) ** 0.5
    return jnp.asarray(drawn, jnp.float32)


def moved(variables):
    """Variables away from a start, whose zeros and ones would hide a mistake."""
    random = np.random.default_rng(5)
    return jax.tree.map(
        lambda x: x + 0.1 * np.abs(random.normal(size=x.shape)).astype(x.dtype),
        jax.tree.map(np.asarray, variables),
    )


def ours(name, size=8, **options):
    network = models.create(name, 3, **options)
    images = normal(2, size, size, 3, seed=1)
    return Net(network.apply, network.init(KEY, images), images)


def mlp(seed=0, widths=(4, 6, 5, 3)):
    layers = [
        {"kernel": normal(n, m, seed=seed + i), "bias": normal(m, seed=seed + 9 + i)}
        for i, (n, m) in enumerate(itertools.pairwise(widths))
    ]

    def apply(layers, x):
        for layer in layers[:-1]:
            x = jnp.tanh(x @ layer["kernel"] + layer["bias"][None])
        return x @ layers[-1]["kernel"] + layers[-1]["bias"][None]

    return Net(apply, layers, normal(5, widths[0], seed=seed))


class Block(nnx.Module):
    """A transformer's block on four tokens, and a classifier."""

    def __init__(self, rngs):
        self.embed = nnx.Linear(6, 8, rngs=rngs)
        self.place = nnx.Param(nnx.initializers.normal()(rngs.params(), (1, 4, 8)))
        self.norm = nnx.LayerNorm(8, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(
            num_heads=2, in_features=8, qkv_features=12, decode=False, rngs=rngs
        )
        self.wide = nnx.Linear(8, 10, rngs=rngs)
        self.narrow = nnx.Linear(10, 8, rngs=rngs)
        self.last = nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, x):
        x = self.embed(x) + self.place[...]
        x = x + self.attention(self.norm(x))
        x = x + self.narrow(nnx.gelu(self.wide(x)))
        return self.last(x.mean(1))


def normed():
    """One hidden layer of six units, normalised in two blocks."""
    weights = {"first": normal(4, 6), "last": normal(6, 2, seed=2)}

    def apply(w, x):
        hidden = (x @ w["first"]).reshape(-1, 2, 3)
        hidden = hidden - hidden.mean(-1, keepdims=True)
        hidden = hidden / jnp.sqrt(jnp.square(hidden).mean(-1, keepdims=True) + 0.1)
        return jnp.tanh(hidden.reshape(-1, 6)) @ w["last"]

    return Net(apply, weights, normal(3, 4, seed=1))


def of_nnx():
    graph, state = nnx.split(Block(nnx.Rngs(0)))
    return Net(lambda s, x: nnx.merge(graph, s)(x), state, normal(2, 4, 6, seed=1))


class Convolutions(eqx.Module):
    """Channels first: a convolution, one in groups, group norm, pool and attention."""

    first: eqx.nn.Conv2d
    grouped: eqx.nn.Conv2d
    norm: eqx.nn.GroupNorm
    pool: eqx.nn.MaxPool2d
    attention: eqx.nn.MultiheadAttention
    last: eqx.nn.Linear

    def __init__(self, key):
        keys = jax.random.split(key, 4)
        self.first = eqx.nn.Conv2d(3, 6, 3, padding=1, key=keys[0])
        self.grouped = eqx.nn.Conv2d(6, 12, 3, padding=1, groups=3, key=keys[1])
        self.norm = eqx.nn.GroupNorm(3, 12)
        self.pool = eqx.nn.MaxPool2d(2, 2)
        self.attention = eqx.nn.MultiheadAttention(2, 12, key=keys[2])
        self.last = eqx.nn.Linear(48, 3, key=keys[3])

    def __call__(self, image):
        x = jax.nn.relu(self.grouped(jnp.tanh(self.first(image))))
        x = self.pool(x).reshape(12, -1).T
        x = x + self.attention(x, x, x)
        x = self.norm(x.T)
        return self.last(x.ravel())


def of_equinox():
    arrays, static = eqx.partition(Convolutions(KEY), eqx.is_array)

    def apply(arrays, images):
        return jax.vmap(eqx.combine(arrays, static))(images)

    return Net(apply, arrays, normal(2, 3, 4, 4, seed=1))


def concatenated():
    """A dense connection: the last kernel sees inputs, and two layers' units."""
    weights = {"a": normal(4, 5), "b": normal(9, 6), "c": normal(15, 3)}

    def apply(w, x):
        x = jnp.concatenate([x, jax.nn.relu(x @ w["a"])], -1)
        x = jnp.concatenate([x, jnp.tanh(x @ w["b"])], -1)
        return x @ w["c"]

    return Net(apply, weights, normal(3, 4, seed=1))


def stacked():
    """Residual layers in a scan over leaves [layers, ...]."""
    weights = {"in": normal(4, 5), "up": normal(3, 5, 6), "down": normal(3, 6, 5)}
    weights |= {"last": normal(5, 3, seed=2)}

    def apply(w, x):
        def layer(x, row):
            return x + jnp.tanh(x @ row["up"]) @ row["down"], None

        rows = {name: w[name] for name in ("up", "down")}
        x = jax.lax.scan(layer, x @ w["in"], rows)[0]
        return x @ w["last"]

    return Net(apply, weights, normal(3, 4, seed=1))


def fused():
    """Queries, keys and values from one kernel, split by a reshape."""
    weights = {"qkv": normal(4, 3 * 2 * 5), "out": normal(2 * 5, 3)}

    def apply(w, x):
        q, k, v = jnp.moveaxis((x @ w["qkv"]).reshape(*x.shape[:2], 3, 2, 5), 2, 0)
        scores = jax.nn.softmax(jnp.einsum("bthd,bshd->bhts", q, k))
        mixed = jnp.einsum("bhts,bshd->bthd", scores, v)
        return (mixed.reshape(*x.shape[:2], -1) @ w["out"]).mean(1)

    return Net(apply, weights, normal(2, 4, 4, seed=1))


def tied():
    """An embedding that is the last layer too, and a recurrent kernel."""
    weights = {"embed": normal(6, 5), "again": normal(5, 5, seed=3)}

    def apply(w, x):
        x = w["embed"][x].mean(1)
        x = jax.lax.fori_loop(0, 3, lambda _, x: jnp.tanh(x @ w["again"]) + x, x)
        return x @ w["embed"].T

    return Net(apply, weights, jnp.array([[0, 3, 1], [5, 5, 2]]))
