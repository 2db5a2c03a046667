"""What the optimisers decay in each library's trees, and the numbers they refuse."""

import subprocess
import sys
import textwrap

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from kd_heuristics import schedules, training
from tests.trees import BIAS, KERNEL, NAMES, TREES, NnxNet

DECAY = 0.1
MAKERS = {
    "sgd": lambda rate=1.0, **rest: training.sgd(rate, 0.0, **rest),
    "adam": training.adam,
    "shampoo": training.shampoo,
}
makers = pytest.mark.parametrize("name", MAKERS)


def decayed(optimizer, params):
    """Names of leaves that move without a gradient."""
    still = jax.tree.map(jnp.zeros_like, params)
    update = jax.jit(optimizer.update)
    updates, _ = update(still, optimizer.init(params), params)
    return [bool(leaf.any()) for leaf in jax.tree.leaves(updates)]


def make(name, decay=DECAY, **rest):
    return MAKERS[name](0.1, weight_decay=decay, **rest)


@makers
@pytest.mark.parametrize("tree", [name for name in TREES if name != "nnx module"])
def test_the_same_leaves_decay_in_every_library(name, tree):
    # Ones, so that each leaf would show its decay.
    params = jax.tree.map(jnp.ones_like, TREES[tree])
    expected = [leaf.endswith("kernel") for leaf in NAMES]
    assert decayed(make(name), params) == expected
    assert decayed(make(name, 0.0), params) == [False] * 3


class Own(eqx.Module):
    weight: jax.Array
    offset: jax.Array


class Everything(eqx.Module):
    """Each kind of layer, with what Flax would call a kernel."""

    linear: eqx.nn.Linear
    conv: eqx.nn.Conv2d
    up: eqx.nn.ConvTranspose2d
    cell: eqx.nn.LSTMCell
    gru: eqx.nn.GRUCell
    embedding: eqx.nn.Embedding
    norm: eqx.nn.LayerNorm
    wide_norm: eqx.nn.LayerNorm
    groups: eqx.nn.GroupNorm
    attention: eqx.nn.MultiheadAttention
    layers: list
    own: Own

    def __init__(self):
        key = jax.random.key(0)
        self.linear = eqx.nn.Linear(2, 3, key=key)
        self.conv = eqx.nn.Conv2d(2, 3, 3, key=key)
        self.up = eqx.nn.ConvTranspose2d(2, 3, 3, key=key)
        self.cell = eqx.nn.LSTMCell(2, 3, key=key)
        self.gru = eqx.nn.GRUCell(2, 3, key=key)
        self.embedding = eqx.nn.Embedding(4, 3, key=key)
        self.norm = eqx.nn.LayerNorm(3)
        self.wide_norm = eqx.nn.LayerNorm((2, 3))
        self.groups = eqx.nn.GroupNorm(2, 4)
        self.attention = eqx.nn.MultiheadAttention(2, 4, key=key)
        self.layers = [eqx.nn.MLP(2, 2, 3, 1, key=key)]
        self.own = Own(jnp.ones((2, 3)), jnp.ones((2, 3)))


EQUINOX_KERNELS = {
    *("linear/weight", "conv/weight", "up/weight", "own/weight"),
    *("cell/weight_ih", "cell/weight_hh", "gru/weight_ih", "gru/weight_hh"),
    *(f"attention/{part}_proj/weight" for part in ("query", "key", "value", "output")),
    *(f"layers/0/layers/{index}/weight" for index in range(2)),
}


def test_the_kernels_of_equinox():
    params = eqx.filter(Everything(), eqx.is_inexact_array)
    flags = jax.tree_util.tree_leaves_with_path(training.kernels(params))
    named = {
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, on in flags
        if on
    }
    assert named == EQUINOX_KERNELS
    moved = decayed(training.sgd(1.0, weight_decay=DECAY), params)
    assert moved == [on for _, on in flags]


def test_inside_nnx_optimizer():
    model = NnxNet()
    optimizer = training.sgd(1.0, 0.0, weight_decay=DECAY)
    chain = nnx.Optimizer(model, optimizer, wrt=nnx.Param)
    still = jax.tree.map(jnp.zeros_like, nnx.state(model, nnx.Param))
    chain.update(model, still)
    np.testing.assert_allclose(model.fc.kernel[...], (1 - DECAY) * KERNEL, rtol=1e-6)
    np.testing.assert_array_equal(model.fc.bias[...], BIAS)


@makers
def test_a_mask_says_otherwise(name):
    params = jax.tree.map(jnp.ones_like, TREES["dict"])
    chosen = {"conv": {"kernel": False}, "fc": {"bias": True, "kernel": False}}
    for mask in chosen, lambda params: chosen, {"conv": False, "fc": chosen["fc"]}:
        assert decayed(make(name, mask=mask), params) == [False, True, False]


@makers
@pytest.mark.parametrize("decay", [DECAY, np.float32(DECAY), jnp.float32(DECAY)])
def test_a_decay_of_nothing_is_refused(name, decay):
    torch = {"fc": {"weight": jnp.ones((2, 3)), "bias": jnp.ones(3)}}
    words = r"weight_decay=0\.1\d* matches no leaf .* 'fc/bias', 'fc/weight'; .* mask="
    for mask in None, lambda params: jax.tree.map(lambda _: False, params):
        with pytest.raises(ValueError, match=words):
            make(name, decay, mask=mask).init(torch)
    for made in make(name, 0.0), make(name, jnp.float32(0.0)):
        assert decayed(made, torch) == [False, False]
    assert make(name, decay).init({}) is not None


@makers
def test_a_decay_may_be_traced(name):
    params = jax.tree.map(jnp.ones_like, TREES["equinox"])

    @jax.jit
    def move(decay, momentum, clip, params):
        rest = {} if name == "adam" else {"momentum": momentum}
        made = {"sgd": training.sgd, "adam": training.adam, "shampoo": training.shampoo}
        optimizer = made[name](0.1, weight_decay=decay, clip_norm=clip, **rest)
        still = jax.tree.map(jnp.zeros_like, params)
        return optimizer.update(still, optimizer.init(params), params)[0]

    for decay in 0.0, DECAY:
        kernel = move(decay, 0.5, 1.0, params)["fc"].kernel
        assert bool(kernel.any()) == (decay > 0)


@pytest.mark.parametrize("clip", [None, 1.0])
def test_adam_takes_a_schedule_for_the_rate(clip):
    params = jax.tree.map(jnp.ones_like, TREES["dict"])
    rate = schedules.linear_decay(0.1, 5)
    parts = [] if clip is None else [optax.clip_by_global_norm(clip)]
    ours = training.adam(rate, clip_norm=clip)
    theirs = optax.chain(*parts, optax.adam(rate))
    states = ours.init(params), theirs.init(params)
    for _ in range(3):
        (a, own), (b, other) = (
            jax.jit(optimizer.update)(params, state, params)
            for optimizer, state in zip((ours, theirs), states, strict=True)
        )
        states = own, other
        for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-6)
    # The rate leaves the decay alone; the schedule multiplies both.
    still = jax.tree.map(jnp.zeros_like, params)
    optimizer = training.adam(lambda count: 0.0, lambda count: 0.5, DECAY)
    updates, _ = optimizer.update(still, optimizer.init(params), params)
    np.testing.assert_allclose(updates["fc"]["kernel"], -0.5 * DECAY, rtol=1e-6)


def test_bound_optimizers_take_extra_arguments():
    def make(rate):
        return optax.chain(optax.sgd(rate), optax.contrib.reduce_on_plateau(patience=1))

    bound, plain = training.bind(make, jnp.float32(0.1)), make(0.1)
    params = {"w": jnp.ones(2)}
    states = bound.init(params), plain.init(params)
    for value in (1.0, 1.0, 1.0, 1.0):
        found, expected = (
            optimizer.update(params, state, params, value=value)
            for optimizer, state in zip((bound, plain), states, strict=True)
        )
        states = found[1], expected[1]
        np.testing.assert_allclose(found[0]["w"], expected[0]["w"], rtol=1e-6)
    assert float(states[0][1].scale) < 1


@pytest.mark.parametrize("make", [training.sgd, training.adam, training.shampoo])
def test_infinity_clips_nothing_and_keeps_the_state_of_a_clipped_member(make):
    params = {"w": jnp.full((2, 2), 3.0)}
    kept = [make(0.5, clip_norm=jnp.float32(norm)) for norm in (1.0, np.inf)]
    clipped, free = (one.init(params) for one in kept)
    assert jax.tree.structure(clipped) == jax.tree.structure(free)
    plain = make(0.5, clip_norm=None)
    found, _ = kept[1].update(params, free, params)  # a gradient of norm 6
    expected, _ = plain.update(params, plain.init(params), params)
    np.testing.assert_array_equal(found["w"], expected["w"])


WRONG = """
    import numpy as np
    from kd_heuristics import training

    NAN, MIXED = float("nan"), ["0.1", [2], None, np.array([1, 2]), 1j]
    RANGES = {
        "learning_rate": [-0.1, NAN, float("inf"), *MIXED],
        "momentum": [1.5, 1.0, -1, NAN, *MIXED],
        "weight_decay": [-0.1, NAN, *MIXED],
        "clip_norm": [0, -1, 0.0, NAN, "0.1", [2], np.array([1, 2]), 1j],
        "block_size": [0, 2.5, NAN, *MIXED],
        "every_steps": [0, 2.5, NAN, *MIXED],
        "decay": [1.0, -0.1, NAN, *MIXED],
        "epsilon": [0, -1.0, NAN, *MIXED],
    }
    MAKES = {
        training.sgd: ("learning_rate", "momentum", "weight_decay", "clip_norm"),
        training.adam: ("learning_rate", "weight_decay", "clip_norm"),
        training.shampoo: ("learning_rate", "momentum", "weight_decay", "clip_norm",
                           "block_size", "every_steps"),
        training.scale_by_shampoo: ("block_size", "every_steps", "decay", "epsilon"),
    }
    for make, names in MAKES.items():
        rest = {} if make is training.scale_by_shampoo else {"learning_rate": 0.1}
        for name in names:
            for value in RANGES[name]:
                try:
                    make(**rest | {name: value})
                except ValueError as error:
                    words = str(error)
                    assert words.startswith(name + " must "), words
                    shown = "shape" if np.ndim(value) else str(value)
                    assert shown in words and ";" in words, (name, value, words)
                else:
                    raise AssertionError((make, name, value))
    for make in training.adam, training.shampoo:
        try:
            make(0.1, 0.5)
        except ValueError as error:
            assert "schedule must be a schedule, count -> value, got 0.5" in str(error)
        else:
            raise AssertionError("a number for a schedule")
"""


def test_numbers_out_of_range_are_refused():
    # In a process of its own: here beartype refuses what is no number before we do.
    subprocess.run([sys.executable, "-c", textwrap.dedent(WRONG)], check=True)
