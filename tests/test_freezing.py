"""Freezing against freshly made optimisers and float64 NumPy."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kd_heuristics import freezing

THAW = 4
NUM_STEPS = 8


def frozen(path):
    return path.startswith("fc")


def params():
    numbers = np.random.default_rng(0)
    return {
        "conv": {"kernel": jnp.asarray(numbers.normal(size=(2, 3)), jnp.float32)},
        "fc": {
            # Both signs of zero: nothing may touch a bit.
            "bias": jnp.array([0.0, -0.0, 1.0]),
            "kernel": jnp.asarray(numbers.normal(size=(3, 2)), jnp.float32),
        },
    }


@functools.cache
def gradients(step):
    numbers = np.random.default_rng(step + 1)
    return jax.tree.map(
        lambda x: jnp.asarray(numbers.normal(size=x.shape), x.dtype), params()
    )


def rate(count):
    return 0.1 / (1.0 + count)


def only(name, tree):
    return {name: tree[name]}


def hidden(tree):
    """The tree with zeros in its frozen leaves."""
    return {**tree, "fc": jax.tree.map(jnp.zeros_like, tree["fc"])}


def run(optimizer, num_steps=NUM_STEPS, start=None, gradient=gradients, first=0):
    """Parameters before each step, and after the last; the updates; the last state."""
    weights = params() if start is None else start
    state = optimizer.init(weights)
    step = jax.jit(optimizer.update)
    trail, updates = [weights], []
    for index in range(first, first + num_steps):
        update, state = step(gradient(index), state, weights)
        weights = optax.apply_updates(weights, update)
        trail.append(weights)
        updates.append(update)
    return trail, updates, state


def bits(tree):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


def assert_close(found, expected):
    # One compiled program against another: a product and a sum may be contracted.
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=5e-6, atol=2e-7),
        found,
        expected,
    )


# Rates are constant here: a fresh optimiser would start its schedules again.
OPTIMIZERS = {
    "sgd": optax.sgd(0.1, momentum=0.9),
    "sgd with decay": optax.chain(
        optax.add_decayed_weights(0.1), optax.sgd(0.1, momentum=0.9)
    ),
    "adam": optax.adam(0.1),
    "adamw": optax.adamw(0.1, weight_decay=0.1),
    "rmsprop": optax.rmsprop(0.1, bias_correction=True),
    "adafactor": optax.adafactor(0.1, min_dim_size_to_factor=2),
    "novograd": optax.novograd(0.1),
    "lamb": optax.lamb(0.1),
    "schedule free": optax.contrib.schedule_free_adamw(0.1),
    "by label": optax.multi_transform(
        {"a": optax.adam(0.1), "b": optax.sgd(0.1, momentum=0.9)},
        {"conv": "a", "fc": {"bias": "b", "kernel": "a"}},
    ),
    "masked": optax.masked(optax.adam(0.1), {"conv": True, "fc": True}),
    "injected": optax.inject_hyperparams(optax.adamw)(0.1, weight_decay=0.1),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_frozen_leaves_rest_and_thaw_as_new(name):
    inner = OPTIMIZERS[name]
    trail, updates, _ = run(freezing.freeze(inner, frozen, THAW))
    for weights in trail[: THAW + 1]:
        assert bits(weights["fc"]) == bits(params()["fc"])
    moved = jax.tree.map(lambda u: bool(jnp.any(u != 0)), updates[THAW]["fc"])
    assert all(jax.tree.leaves(moved))
    # Neighbours do not notice: nothing in these optimisers couples leaves.
    _, plain, _ = run(inner)
    for found, expected in zip(updates, plain, strict=True):
        assert_close(only("conv", found), only("conv", expected))
    # The thawed: as by an optimiser made at the thaw.
    _, fresh, _ = run(inner, NUM_STEPS - THAW, trail[THAW], first=THAW)
    for found, expected in zip(updates[THAW:], fresh, strict=True):
        assert_close(only("fc", found), only("fc", expected))


def adamw_oracle(weight, grads, count, rates, decay=0.1, b1=0.9, b2=0.999, eps=1e-8):
    """Float64 AdamW from a fresh start; count is how many updates came before."""
    weight, m, v = np.asarray(weight, np.float64), 0.0, 0.0
    updates = []
    for index, grad in enumerate(np.asarray(grads, np.float64), start=1):
        m, v = b1 * m + (1 - b1) * grad, b2 * v + (1 - b2) * grad**2
        step = (m / (1 - b1**index)) / (np.sqrt(v / (1 - b2**index)) + eps)
        updates.append(-rates(count + index - 1) * (step + decay * weight))
        weight = weight + updates[-1]
    return updates


@pytest.mark.parametrize("injected", [False, True])
def test_moments_start_again_while_schedules_go_on(injected):
    make = optax.inject_hyperparams(optax.adamw) if injected else optax.adamw
    inner = make(rate, weight_decay=0.1)
    _, updates, _ = run(freezing.freeze(inner, frozen, THAW))
    for name, first in (("conv", 0), ("fc", THAW)):
        leaf = "kernel" if name == "conv" else "bias"
        grads = [gradients(i)[name][leaf] for i in range(first, NUM_STEPS)]
        expected = adamw_oracle(params()[name][leaf], grads, first, rate)
        found = [update[name][leaf] for update in updates[first:]]
        # float32 moments against float64 ones.
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7)


CLIPPED = {
    "sgd": optax.chain(optax.clip_by_global_norm(0.5), optax.sgd(0.1, momentum=0.9)),
    # The decay of a frozen leaf must not count in the norm either.
    "decay": optax.chain(
        optax.add_decayed_weights(1.0),
        optax.clip_by_global_norm(0.5),
        optax.sgd(0.1, momentum=0.9),
    ),
    "adam": optax.chain(optax.clip_by_global_norm(0.5), optax.adam(0.1)),
    "last": optax.chain(optax.trace(0.9), optax.clip_by_global_norm(0.5)),
}


@pytest.mark.parametrize("name", CLIPPED)
@pytest.mark.parametrize("start", [0, 2])
def test_clipping_ignores_frozen_leaves_and_sees_the_thawed(name, start):
    inner = CLIPPED[name]

    def huge(step):
        grads = gradients(step)
        return {**grads, "fc": jax.tree.map(lambda g: 1e3 * g, grads["fc"])}

    def shown(step):
        return hidden(huge(step)) if start <= step < THAW else huge(step)

    trail, updates, _ = run(freezing.freeze(inner, frozen, THAW, start), gradient=huge)
    # By hand: zero gradients and weights while frozen, and momentum set to 0.
    state, step = inner.init(params()), jax.jit(inner.update)
    for index in range(NUM_STEPS):
        during = start <= index < THAW
        seen = hidden(trail[index]) if during else trail[index]
        expected, state = step(shown(index), state, seen)
        if during:
            state = jax.tree_util.tree_map_with_path(
                lambda path, x: jnp.zeros_like(x) if "fc" in str(path) else x, state
            )
        assert_close(only("conv", updates[index]), only("conv", expected))
        if not during and name != "adam":  # Adam's count differs for the thawed.
            assert_close(only("fc", updates[index]), only("fc", expected))


def test_one_program_before_during_and_after():
    optimizer = freezing.freeze(optax.adamw(rate), frozen, 4, start=2)
    traces = []

    @jax.jit
    def step(weights, state, grads):
        traces.append(1)
        updates, state = optimizer.update(grads, state, weights)
        return optax.apply_updates(weights, updates), state

    weights, state = params(), optimizer.init(params())
    changed = []
    for index in range(6):
        before = bits(weights["fc"])
        weights, state = step(weights, state, gradients(index))
        changed.append(bits(weights["fc"]) != before)
    assert changed == [True, True, False, False, True, True]
    assert len(traces) == 1
    assert step._cache_size() == 1


def test_a_leaf_frozen_later_thaws_as_new_too():
    inner = optax.adam(0.1)
    trail, updates, _ = run(freezing.freeze(inner, frozen, until=5, start=2))
    _, before, _ = run(inner, 2)
    for index in range(2):
        assert_close(updates[index], before[index])
    _, fresh, _ = run(inner, 3, trail[5], first=5)
    for found, expected in zip(updates[5:], fresh, strict=True):
        assert_close(only("fc", found), only("fc", expected))


def test_a_schedule_may_freeze_again_and_again():
    pattern = np.array([1, 0, 0, 1, 1, 0, 0, 0])
    optimizer = freezing.freeze(
        optax.adam(0.1), frozen, lambda count: jnp.asarray(pattern)[count]
    )
    trail, updates, _ = run(optimizer)
    rests = [bits(a["fc"]) == bits(b["fc"]) for a, b in itertools.pairwise(trail)]
    assert rests == [bool(value) for value in pattern]
    _, fresh, _ = run(optax.adam(0.1), 3, trail[5], first=5)
    for found, expected in zip(updates[5:], fresh, strict=True):
        assert_close(only("fc", found), only("fc", expected))


def test_inside_chain_multi_transform_and_inject_hyperparams():
    plain = freezing.freeze(optax.adam(0.1), frozen, THAW)
    labels = {"conv": "rest", "fc": "head"}
    head = freezing.freeze(optax.adam(0.1), lambda path: "kernel" in path, THAW)
    _, expected, _ = run(plain)
    chained = optax.chain(plain, optax.scale(2.0))
    for found, single in zip(run(chained)[1], expected, strict=True):
        assert_close(found, jax.tree.map(lambda u: 2 * u, single))
    injected = optax.inject_hyperparams(
        lambda learning_rate: freezing.freeze(optax.adam(learning_rate), frozen, THAW)
    )(learning_rate=0.1)
    for found, single in zip(run(injected)[1], expected, strict=True):
        assert_close(found, single)
    mixed = optax.multi_transform({"rest": optax.adam(0.1), "head": head}, labels)
    trail, updates, _ = run(mixed)
    assert bits(trail[THAW]["fc"]["kernel"]) == bits(params()["fc"]["kernel"])
    assert bits(trail[1]["fc"]["bias"]) != bits(params()["fc"]["bias"])
    assert_close(
        {"kernel": updates[THAW]["fc"]["kernel"]},
        {"kernel": expected[THAW]["fc"]["kernel"]},
    )


def test_hyperparameters_set_by_hand_reach_thawed_leaves():
    inner = optax.inject_hyperparams(optax.adam)(learning_rate=0.1)
    optimizer = freezing.freeze(inner, frozen, 1)
    state = optimizer.init(params())
    step = jax.jit(optimizer.update)
    _, state = step(gradients(0), state, params())
    slow, _ = step(gradients(1), state, params())
    state.inner_state.hyperparams["learning_rate"] = jnp.float32(0.2)
    fast, _ = step(gradients(1), state, params())
    assert_close(fast, jax.tree.map(lambda u: 2 * u, slow))


def test_the_step_of_the_thaw_may_be_traced():
    def weights_after(until):
        optimizer = freezing.freeze(optax.adam(0.1), frozen, until)
        weights, state = params(), optimizer.init(params())
        for index in range(4):
            updates, state = optimizer.update(gradients(index), state, weights)
            weights = optax.apply_updates(weights, updates)
        return weights

    population = jax.jit(jax.vmap(weights_after))(jnp.array([1, 3]))
    for index, until in enumerate((1, 3)):
        expected = jax.jit(lambda until=until: weights_after(until))()
        assert_close(jax.tree.map(lambda x, i=index: x[i], population), expected)


def test_types_of_updates_and_state_stay():
    weights = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params())
    optimizer = freezing.freeze(optax.adamw(0.1), frozen, 1)
    state = optimizer.init(weights)
    updates, after = jax.eval_shape(optimizer.update, weights, state, weights)
    assert {leaf.dtype for leaf in jax.tree.leaves(updates)} == {jnp.dtype("bfloat16")}
    types = [[leaf.dtype for leaf in jax.tree.leaves(s)] for s in (state, after)]
    assert types[0] == types[1]


def test_state_can_be_donated_and_updates_need_no_params():
    optimizer = freezing.freeze(optax.adam(0.1), frozen, 2)
    step = jax.jit(lambda s, g: optimizer.update(g, s), donate_argnums=0)
    state = optimizer.init(params())
    for index in range(3):
        _, state = step(state, gradients(index))
    assert int(state.count) == 3
    shapes = jax.eval_shape(optimizer.init, params())
    assert jax.tree.structure(shapes) == jax.tree.structure(state)


def test_a_gradient_that_is_not_finite_stays_out_while_frozen():
    def spoilt(step):
        grads = gradients(step)
        return {**grads, "fc": jax.tree.map(lambda g: g * jnp.nan, grads["fc"])}

    inner = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.1))
    trail, _, _ = run(
        freezing.freeze(inner, frozen, 2),
        4,
        gradient=lambda step: spoilt(step) if step < 2 else gradients(step),
    )
    assert all(
        np.isfinite(np.asarray(x, float)).all() for x in jax.tree.leaves(trail[-1])
    )


def test_states_of_layers_that_share_names_with_fields():
    # A parameter called as a field of the state, one path the ending of another.
    tree = {"mu": jnp.ones(2), "count": jnp.ones(2), "a": {"mu": jnp.ones(2)}}
    optimizer = freezing.freeze(optax.adam(rate), lambda path: path == "a/mu", 2)
    state, weights = optimizer.init(tree), tree
    assert list(state.restarted) == ["[0].count"]
    step = jax.jit(optimizer.update)
    for _ in range(4):
        updates, state = step(tree, state, weights)
        weights = optax.apply_updates(weights, updates)
    # Adam on a constant gradient moves by the rate.
    np.testing.assert_allclose(weights["mu"], 1 - sum(map(rate, range(4))), rtol=1e-5)
    np.testing.assert_allclose(weights["a"]["mu"], 1 - rate(2) - rate(3), rtol=1e-5)


@pytest.mark.parametrize("names", ["no leaf", "every leaf"])
def test_a_predicate_must_name_some_leaves(names):
    def predicate(path):
        return names == "every leaf"

    words = f"names {names} of 'conv/kernel', 'fc/bias', 'fc/kernel'"
    optimizer = freezing.freeze(optax.sgd(0.1), predicate, 5)
    with pytest.raises(ValueError, match=words):
        optimizer.init(params())
    with pytest.raises(ValueError, match=words):
        freezing.stop_frozen(params(), predicate)


@pytest.mark.parametrize(
    ("until", "start", "words"),
    [
        (0, 0, "until=0 and start=0"),
        (5, 7, "until=5 and start=7"),
        (5, -1, "start must not be negative, got -1"),
    ],
)
def test_steps_out_of_order_are_named(until, start, words):
    with pytest.raises(ValueError, match=words):
        freezing.freeze(optax.sgd(0.1), frozen, until, start)


def test_stop_frozen_stops_gradients_only():
    def loss(weights, stop):
        weights = freezing.stop_frozen(weights, frozen) if stop else weights
        return sum(jnp.sin(x.astype("float32")).sum() for x in jax.tree.leaves(weights))

    free, stopped = jax.jit(
        lambda weights: [jax.grad(loss)(weights, stop) for stop in (False, True)]
    )(params())
    assert bits(free["conv"]) == bits(stopped["conv"])
    assert all(
        (np.asarray(x, float) == 0).all() for x in jax.tree.leaves(stopped["fc"])
    )


def test_batch_norm_statistics_of_frozen_layers_stay():
    old = {"bn": {"mean": jnp.zeros(2)}, "fc_bn": {"mean": jnp.zeros(2)}}
    new = jax.tree.map(lambda x: x + 1, old)
    keep = jax.jit(
        lambda count: freezing.keep_batch_stats(
            old, new, lambda path: path.startswith("fc"), freezing.is_frozen(count, 3)
        )
    )
    assert [float(keep(c)["fc_bn"]["mean"][0]) for c in (0, 2, 3)] == [0, 0, 1]
    assert [float(keep(c)["bn"]["mean"][0]) for c in (0, 2, 3)] == [1, 1, 1]


@jax.jit
def which_steps_rest(until, start):
    optimizer = freezing.freeze(optax.adam(0.1), frozen, until, start)

    def step(carry, index):
        weights, state = carry
        updates, state = optimizer.update(gradients(0), state, weights)
        rests = [(u == 0).all() for u in jax.tree.leaves(updates["fc"])]
        return (optax.apply_updates(weights, updates), state), jnp.stack(rests).all()

    carry = params(), optimizer.init(params())
    return jax.lax.scan(step, carry, jnp.arange(9))[1]


@given(st.integers(0, 5), st.integers(1, 5))
@settings(derandomize=True, deadline=None, max_examples=20)
def test_frozen_for_exactly_these_steps(start, length):
    rests = which_steps_rest(start + length, start)
    assert rests.tolist() == [start <= i < start + length for i in range(9)]
