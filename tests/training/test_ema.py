"""The average of the parameters, against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kd_heuristics import training


def objective(params, batch_stats, batch, key):
    return ((params["w"] - batch) ** 2).sum(), (batch_stats, {})


def test_average_follows_the_parameters_and_leaves_them_alone():
    start = {"w": jnp.array([1.0, -2.0])}

    def run(optimizer, num_steps):
        return training.fit(
            objective,
            start,
            {},
            optimizer,
            lambda seed, step: jnp.float32([3.0, 1.0]),
            num_steps=num_steps,
        )

    averaged = training.ema(optax.adam(0.1), decay=0.8)
    plain = optax.adam(0.1)
    average = np.array([1.0, -2.0])
    for steps in range(1, 5):
        average = 0.8 * average + 0.2 * np.asarray(run(plain, steps).params["w"])
    state = run(averaged, 4)
    np.testing.assert_array_equal(state.params["w"], run(plain, 4).params["w"])
    found = training.ema_params(state.opt_state)["w"]
    np.testing.assert_allclose(found, average, rtol=1e-6)  # float32, four steps


def test_the_average_of_bfloat16_moves_by_less_than_it_can_hold():
    optimizer = training.ema(optax.sgd(1.0), decay=0.999)
    params = jnp.ones(2, jnp.bfloat16)
    updates, state = optimizer.update(params, optimizer.init(params), params)
    assert updates.dtype == jnp.bfloat16
    # The parameters are 0 now; a bfloat16 below 1 is at least 0.004 below it.
    np.testing.assert_allclose(training.ema_params(state), 0.999, rtol=1e-6)


def test_traced_decay():
    values = jax.vmap(
        lambda decay: (
            training.ema(optax.sgd(1.0), decay)
            .update(1.0, training.ema(optax.sgd(1.0), decay).init(2.0), 2.0)[1]
            .average
        )
    )(jnp.array([0.0, 0.5]))
    np.testing.assert_allclose(values, [1.0, 1.5])


def test_bad_input():
    with pytest.raises(ValueError, match=r"decay must lie in \[0, 1\), got 1"):
        training.ema(optax.sgd(0.1), 1.0)
    optimizer = training.ema(optax.sgd(0.1), 0.5)
    with pytest.raises(ValueError, match="call update with params"):
        optimizer.update(1.0, optimizer.init(1.0))
    with pytest.raises(ValueError, match=r"expected one training.ema .* found 0"):
        training.ema_params(optax.sgd(0.1).init(1.0))
