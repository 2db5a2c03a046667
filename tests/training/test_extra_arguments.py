"""Optimisers that ask for more than a gradient: values, line searches, curvature."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kd_heuristics import freezing, training
from kd_heuristics.runtime import parallel
from tests.grouped import grouped

DATA = np.random.RandomState(0).normal(size=(6, 8, 3)).astype(np.float32)
STEPS = 4


def loss(params, batch):
    residuals = batch @ params["a"]["kernel"] - 0.5
    return (residuals**2).mean() + 0.1 * params["b"]["kernel"] ** 2


def objective(params, batch_stats, batch, key):
    value = loss(params, batch)
    return value, (batch_stats, {"loss": value})


def batches(seed, step):
    return jnp.asarray(DATA)[step % len(DATA)]


def start():
    return {"a": {"kernel": jnp.ones(3)}, "b": {"kernel": jnp.float32(2)}}


def plateau():
    own = optax.contrib.reduce_on_plateau(patience=1, cooldown=0, factor=0.5, rtol=0.9)
    return optax.chain(optax.sgd(0.05), own)


def line_search():
    return optax.chain(optax.sgd(1.0), optax.scale_by_backtracking_linesearch(10))


OPTIMIZERS = {
    "plateau": plateau,
    "polyak": lambda: optax.polyak_sgd(max_learning_rate=0.1),
    "momo": lambda: optax.contrib.momo(0.1),
    "lbfgs": lambda: optax.lbfgs(),
    "line search": line_search,
    "sophia": lambda: optax.contrib.sophia(0.01),
    "multi-steps": lambda: optax.MultiSteps(plateau(), 2).gradient_transformation(),
}


def unfrozen(make):
    def never(path):
        return path == "b/kernel"

    return freezing.freeze(make(), never, until=lambda count: count < 0)


WRAPPERS = {
    "alone": lambda make: make(),
    "bind": lambda make: training.bind(make),
    "ema": lambda make: training.ema(make(), 0.5),
    "bound ema": lambda make: training.bind(lambda: training.ema(make(), 0.5)),
    "freeze": unfrozen,
}


@functools.cache
def by_hand(make, factor=1.0):
    """Optax's own loop."""
    optimizer, params = make(), start()
    of_curvature = make is OPTIMIZERS["sophia"]
    state = optimizer.init(params)

    @jax.jit
    def step(params, state, batch):
        def value_fn(params):
            return factor * loss(params, batch)

        value, gradient = jax.value_and_grad(value_fn)(params)
        extra = {"value": value, "grad": gradient}
        extra["obj_fn" if of_curvature else "value_fn"] = value_fn
        updates, state = optimizer.update(gradient, state, params, **extra)
        return optax.apply_updates(params, updates), state

    for number in range(STEPS):
        params, state = step(params, state, batches(0, number))
    return params


def assert_equal(params, expected):
    # The same float32 operations in another program.
    for ours, own in zip(
        jax.tree.leaves(params), jax.tree.leaves(expected), strict=True
    ):
        np.testing.assert_allclose(ours, own, rtol=1e-4, atol=1e-6)


# Optax's own wrappers take the update of MultiSteps for one without extra arguments.
CASES = [("alone", name) for name in OPTIMIZERS]
CASES += [(wrapper, name) for wrapper in WRAPPERS for name in ("plateau", "polyak")]
CASES += [("bind", "lbfgs"), ("freeze", "line search")]


@pytest.mark.parametrize(("wrapper", "name"), dict.fromkeys(CASES))
def test_fit_equals_optax_own_loop(name, wrapper):
    optimizer = WRAPPERS[wrapper](OPTIMIZERS[name])
    state = training.fit(objective, start(), {}, optimizer, batches, num_steps=STEPS)
    assert_equal(state.params, by_hand(OPTIMIZERS[name]))


FORMS = {
    "parts": {"micro_batches": 2},
    "mesh": {"mesh": parallel.mesh(2)},
    "devices": {"mesh": parallel.mesh(2), "batch_norm": "device"},
}
FORMS["parts of devices"] = FORMS["parts"] | FORMS["devices"]


@pytest.mark.parametrize(
    ("name", "form"),
    [*(("plateau", form) for form in FORMS), ("line search", "parts of devices")],
)
def test_the_value_is_that_of_the_whole_batch(name, form):
    """Means of equal parts are those of the whole."""
    options = FORMS[form] | {"num_steps": STEPS}
    make = OPTIMIZERS[name]
    state = training.fit(objective, start(), {}, make(), batches, **grouped(options))
    assert_equal(state.params, by_hand(make))


@pytest.mark.parametrize("at_once", [1, 2])
@pytest.mark.parametrize("name", ["plateau", "polyak", "line search"])
def test_members_have_values_of_their_own(name, at_once):
    make = OPTIMIZERS[name]
    optimizer = make()
    members = [
        training.Member(
            objective=jax.tree_util.Partial(scaled, jnp.float32(scale)),
            params=start(),
            batch_stats={},
            optimizer=optimizer,
        )
        for scale in (1.0, 3.0)
    ]
    state = training.population(members, batches, num_steps=STEPS, at_once=at_once)
    for index, scale in enumerate((1.0, 3.0)):
        assert_equal(training.member(state, index).params, by_hand(make, scale))


def scaled(scale, params, batch_stats, batch, key):
    return scale * loss(params, batch), (batch_stats, {})


def custom():
    def update(updates, state, params=None, *, value, **extra_args):
        return jax.tree.map(lambda u: -value * u, updates), state

    return optax.GradientTransformationExtraArgs(lambda params: (), update)


def test_a_transformation_of_ones_own():
    state = training.fit(objective, start(), {}, custom(), batches, num_steps=1)
    value, gradient = jax.value_and_grad(loss)(start(), batches(0, 0))
    expected = jax.tree.map(lambda w, g: w - value * g, start(), gradient)
    assert_equal(state.params, expected)
