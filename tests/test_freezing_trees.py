"""Freezing whatever holds the parameters, and whatever their fields are called."""

import collections
import dataclasses
import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from kd_heuristics import freezing
from tests.trees import KERNEL, NAMES, TREES, NnxNet

THAW, NUM_STEPS = 2, 4


def is_head(name):
    return name == "fc/kernel"


def descend(optimizer, params, num_steps=NUM_STEPS):
    """The leaves before each step and after the last; gradients are the weights."""

    @jax.jit
    def run(params):
        def step(carry, _):
            params, state = carry
            updates, state = optimizer.update(params, state, params)
            return (optax.apply_updates(params, updates), state), params

        carry = params, optimizer.init(params)
        (last, _), before = jax.lax.scan(step, carry, length=num_steps)
        trail = jax.tree.map(lambda x, y: jnp.concatenate([x, y[None]]), before, last)
        return jax.tree.leaves(trail)

    return [np.asarray(leaf) for leaf in run(params)]


@pytest.mark.parametrize("name", [name for name in TREES if name != "nnx module"])
def test_every_container_freezes_alike(name):
    optimizer = freezing.freeze(optax.adamw(0.1), is_head, THAW)
    expected = descend(optimizer, TREES["dict"])
    for found, leaf in zip(descend(optimizer, TREES[name]), expected, strict=True):
        np.testing.assert_array_equal(found, leaf)
    kernel = expected[NAMES.index("fc/kernel")]
    still = np.asarray(KERNEL)[None]
    assert (kernel[: THAW + 1] == still).all()
    assert (kernel[THAW + 1] != still[0]).any()


@pytest.mark.parametrize("inner", [optax.adamw(0.1), optax.sgd(0.1, momentum=0.9)])
def test_inside_nnx_optimizer(inner):
    model = NnxNet()
    optimizer = nnx.Optimizer(
        model, freezing.freeze(inner, is_head, THAW), wrt=nnx.Param
    )
    expected = descend(freezing.freeze(inner, is_head, THAW), TREES["dict"])
    for step in range(NUM_STEPS + 1):
        params = nnx.state(model, nnx.Param)
        for found, leaf in zip(jax.tree.leaves(params), expected, strict=True):
            # One compiled program against single operations.
            np.testing.assert_allclose(found, leaf[step], rtol=1e-6, atol=1e-7)
        optimizer.update(model, params)


@pytest.mark.parametrize("words", ["no leaf", "every leaf"])
def test_a_predicate_is_checked_at_init_and_update(words):
    def of_optimizer(count):
        """A predicate that is wrong from its so many-th tree on."""
        seen = []

        def predicate(name):
            seen.append(name)
            late = len(seen) > count
            return words == "every leaf" if late else is_head(name)

        return freezing.freeze(optax.sgd(0.1), predicate, THAW)

    params = TREES["dict"]
    with pytest.raises(ValueError, match=f"names {words} of 'conv/kernel'"):
        of_optimizer(0).init(params)
    optimizer = of_optimizer(2 * len(NAMES))  # checked, then selected
    state = optimizer.init(params)
    with pytest.raises(ValueError, match=f"names {words} of 'conv/kernel'"):
        optimizer.update(params, state, params)


OPTIMIZERS = {
    "adam": optax.adam(0.1),
    "amsgrad": optax.amsgrad(0.1),
    "rmsprop": optax.rmsprop(0.1, momentum=0.9, bias_correction=True),
    "adafactor": optax.adafactor(0.1),
    "schedule free": optax.contrib.schedule_free_adamw(0.1),
    "plateau": optax.chain(optax.adam(0.1), optax.contrib.reduce_on_plateau()),
    "injected": optax.inject_hyperparams(optax.adamw)(0.1, weight_decay=0.1),
    "scheduled": optax.inject_hyperparams(optax.adam)(lambda count: 0.1),
    "named": optax.named_chain(("mu", optax.adam(0.1)), ("count", optax.trace(0.9))),
    "by label": optax.multi_transform(
        {"mu": optax.adam(0.1), "count": optax.sgd(0.1, momentum=0.9)},
        lambda params: jax.tree.map(lambda x: "mu" if x.ndim else "count", params),
    ),
    "if finite": optax.apply_if_finite(optax.adam(0.1), 3),
}


def named_tuple(names):
    return collections.namedtuple("Params", names)


def data_class(names):
    made = dataclasses.make_dataclass("Params", names)
    return jax.tree_util.register_dataclass(made, data_fields=names, meta_fields=())


def module(names):
    return dataclasses.dataclass(
        type("Params", (eqx.Module,), {"__annotations__": dict.fromkeys(names, Any)})
    )


CONTAINERS = {
    "named tuple": named_tuple,
    "dataclass": data_class,
    "equinox": module,
    "dict": lambda names: dict,
    "nnx": lambda names: (
        lambda **leaves: nnx.State(
            {name: nnx.Param(leaf) for name, leaf in leaves.items()}
        )
    ),
}


def fields(optimizer):
    """All names in an optimiser's state, sorted."""
    state = optimizer.init({"other": jnp.ones(2)})
    keys = {
        key for path, _ in jax.tree_util.tree_leaves_with_path(state) for key in path
    }
    found = {str(getattr(key, "name", getattr(key, "key", "0"))) for key in keys}
    return sorted(name for name in found if name.isidentifier() and name != "other")


@functools.cache
def under_plain_names(name):
    optimizer = OPTIMIZERS[name]
    return names_run(
        optimizer, dict, [f"p{i:02}" for i in range(len(fields(optimizer)))]
    )


def names_run(optimizer, make, names):
    half = set(names[::2])
    optimizer = freezing.freeze(optimizer, lambda name: name in half, THAW)
    extra = {"value": jnp.float32(1.0)}
    updated = functools.partial(optimizer.update, **extra)
    optimizer = optax.GradientTransformation(optimizer.init, updated)
    # Scalars too, which look like counters.
    leaves = [jnp.ones((2,) * (i % 3 == 0)) + i for i in range(len(names))]
    return descend(optimizer, make(**dict(zip(names, leaves, strict=True))))


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("container", CONTAINERS)
def test_names_of_fields_do_not_matter(name, container):
    optimizer = OPTIMIZERS[name]
    names = fields(optimizer)
    found = names_run(optimizer, CONTAINERS[container](names), names)
    for leaf, expected in zip(found, under_plain_names(name), strict=True):
        np.testing.assert_array_equal(leaf, expected)


def test_hyperparameters_are_told_from_parameters_of_the_same_names():
    inner = optax.inject_hyperparams(optax.sgd)(0.1, momentum=0.9)
    found = [
        names_run(inner, dict, names)
        for names in (["learning_rate", "momentum"], ["a", "b"])
    ]
    for leaf, expected in zip(*found, strict=True):
        np.testing.assert_array_equal(leaf, expected)
