"""Moments of batch-norm inputs in NNX and Equinox, against NumPy over the whole set."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from kd_heuristics import models, points
from kd_heuristics.pytrees import leaf_names

X = np.random.default_rng(0).normal(1, 2, (12, 3, 2, 1)).astype(np.float32)
BATCHES = {
    "x": jnp.concatenate([X, 99 * X[:3]]).reshape(3, 5, 3, 2, 1),
    "mask": jnp.arange(15).reshape(3, 5) < 12,
}


class Nnx(nnx.Module):
    """Batch norm over maps, then over vectors."""

    def __init__(self, rngs):
        self.conv = nnx.Conv(1, 4, (1, 1), rngs=rngs)
        self.one = nnx.BatchNorm(4, use_running_average=True, rngs=rngs)
        self.fc = nnx.Linear(24, 5, rngs=rngs)
        self.two = nnx.BatchNorm(5, use_running_average=True, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.one(self.conv(x)))
        return self.two(self.fc(x.reshape(len(x), -1)))


class Eqx(eqx.Module):
    conv: eqx.nn.Conv2d
    one: eqx.nn.BatchNorm
    fc: eqx.nn.Linear
    two: eqx.nn.BatchNorm

    def __init__(self, mode, key):
        keys = jax.random.split(key)
        self.conv = eqx.nn.Conv2d(1, 4, 1, key=keys[0])
        self.one = eqx.nn.BatchNorm(4, "batch", mode=mode)
        self.fc = eqx.nn.Linear(24, 5, key=keys[1])
        self.two = eqx.nn.BatchNorm(5, "batch", mode=mode)

    def __call__(self, x, state):
        x, state = self.one(self.conv(x), state)
        return self.two(self.fc(jax.nn.relu(x).ravel()), state)


NETWORKS = {
    "nnx": lambda: models.from_nnx("nnx", Nnx),
    "batch": lambda: models.from_equinox("eqx", functools.partial(Eqx, "batch")),
    "ema": lambda: models.from_equinox("eqx", functools.partial(Eqx, "ema")),
}


def oracle(leaves, channels_first):
    """Mean and variance of each layer's input, in float64; layer two's after one's."""
    conv, fc = (np.asarray(leaves[f"{name}/kernel"], float) for name in ("conv", "fc"))
    biases = [
        np.asarray(leaves[f"{name}/bias"], float).ravel() for name in ("conv", "fc")
    ]
    inner = X.astype(float) * conv.reshape(4) + biases[0]
    found = [inner.mean((0, 1, 2)), inner.var((0, 1, 2))]
    x = np.maximum((inner - found[0]) / np.sqrt(found[1] + 1e-5), 0)
    if channels_first:
        outer = x.transpose(0, 3, 1, 2).reshape(12, -1) @ fc.T + biases[1]
    else:
        outer = x.reshape(12, -1) @ fc + biases[1]
    return [*found, outer.mean(0), outer.var(0)]


def close(stats, expected):
    found = [x for x in jax.tree.leaves(stats) if jnp.issubdtype(x.dtype, jnp.floating)]
    for own in found:  # names differ; shapes and values do not
        assert any(
            own.shape == one.shape and np.allclose(own, one, rtol=1e-4, atol=1e-5)
            for one in expected
        )
    assert len(found) == 4
    assert len({np.asarray(own).tobytes() for own in found}) == 4


@pytest.mark.parametrize("kind", NETWORKS)
def test_exact_statistics_of_a_network(kind):
    network = NETWORKS[kind]()
    variables = network.init(jax.random.key(0), jnp.asarray(X))

    def apply(params, batch_stats, batch):
        return network.apply({"params": params, "batch_stats": batch_stats}, batch["x"])

    moments = points.input_moments(apply)
    refresh = points.refit_exact(moments, variables["batch_stats"], BATCHES)
    stats = jax.jit(refresh)(variables["params"])
    assert jax.tree.structure(stats) == jax.tree.structure(variables["batch_stats"])
    expected = oracle(leaf_names.flat(variables["params"]), kind != "nnx")
    close(stats, expected)
    # One pass over the whole set in training mode sees the same numbers.
    logits = network.apply(variables | {"batch_stats": stats}, jnp.asarray(X))
    np.testing.assert_allclose(logits.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(logits.std(0), 1, atol=1e-3)


def test_exact_statistics_of_a_module_in_ones_own_way():
    graph, params, stats = nnx.split(Nnx(nnx.Rngs(0)), nnx.Param, nnx.BatchStat)

    def apply(params, stats, batch):
        return nnx.merge(graph, params, stats, copy=True)(batch["x"])

    found = points.refit_exact(points.input_moments(apply), stats, BATCHES)(params)
    close(found, oracle(leaf_names.flat(params), channels_first=False))


def nnx_apply(call):
    graph, params, stats = nnx.split(Nnx(nnx.Rngs(0)), nnx.Param, nnx.BatchStat)
    moments = points.input_moments(
        lambda params, stats, batch: call(nnx.merge(graph, params, stats), batch["x"])
    )
    return moments(params, stats, {"x": jnp.asarray(X)})


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda net, x: nnx.jit(lambda net, x: net(x))(net, x), "no layer of batch_st"),
        (lambda net, x: net.one(net.one(net.conv(x))), "'one/mean' is called twice"),
        (
            lambda net, x: net.one(net.conv(x)),
            "'two/mean' of batch_stats belongs to no",
        ),
        (
            lambda net, x: net.one(net.conv(x), use_running_average=False),
            "'one/mean' is in training mode",
        ),
        (
            lambda net, x: net.two(net.one(net.conv(x), mask=jnp.ones(1, bool))),
            "is called with a mask, under which",
        ),
    ],
)
def test_what_has_no_moments_is_refused_in_words(call, words):
    with pytest.raises(ValueError, match=words):
        nnx_apply(call)


@pytest.mark.parametrize("kind", [nnx.BatchNorm, eqx.nn.BatchNorm])
def test_the_layers_are_left_as_they_were(kind):
    before = kind.__call__
    with pytest.raises(ZeroDivisionError):
        points.input_moments(lambda *_: 1 / 0)({}, {"mean": jnp.ones(2)}, {})
    assert kind.__call__ is before
