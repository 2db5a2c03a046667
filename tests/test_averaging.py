"""Averages of networks against float64 NumPy; what they refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_heuristics import averaging

RANDOM = np.random.default_rng(0)
VALUES = RANDOM.normal(size=(7, 5, 3)).astype(np.float32)


def network(value, dtype=jnp.float32, step=4):
    return {"w": jnp.asarray(value, dtype), "step": jnp.int32(step), "none": None}


def averaged(values, dtype=jnp.float32):
    return averaging.mean(network(value, dtype) for value in values)


def test_mean_is_that_of_float64():
    found = averaged(VALUES)
    expected = VALUES.astype(np.float64).mean(0)
    # Seven float32 updates of values of about 1.
    np.testing.assert_allclose(found["w"], expected, rtol=0, atol=5e-7)
    assert found["step"] == 4
    assert found["step"].dtype == jnp.int32
    assert found["none"] is None


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_is_averaged_in_float32(dtype):
    # In bfloat16 itself, 256 + 1 is 256.
    values = np.array([256.0] * 100 + [260.0] * 100)
    found = averaged(values, dtype)["w"]
    assert found.dtype == dtype
    assert float(found) == 258.0


def test_equal_networks_come_back_bit_for_bit():
    found = averaged([VALUES[0]] * 6)
    np.testing.assert_array_equal(found["w"], VALUES[0])


def test_running_form_is_the_same_under_jit_and_scan():
    first = averaging.init(network(VALUES[0]))

    @jax.jit
    def scanned(running, values):
        def step(running, value):
            return averaging.update(running, network(value)), None

        return jax.lax.scan(step, running, values)[0]

    running = scanned(first, VALUES[1:])
    assert int(running.count) == 7
    found = averaging.result(running)
    # A quotient may be contracted or multiplied out in a compiled program.
    np.testing.assert_allclose(found["w"], averaged(VALUES)["w"], rtol=0, atol=2e-7)


def test_complex_and_nan_leaves():
    found = averaged(VALUES[:2] + 1j * VALUES[2:4], jnp.complex64)["w"]
    expected = (VALUES[:2] + 1j * VALUES[2:4]).mean(0)
    np.testing.assert_allclose(found, expected, rtol=0, atol=5e-7)
    assert jnp.isnan(averaged([1.0, np.nan, 2.0])["w"])


@pytest.mark.parametrize(
    ("networks", "words"),
    [
        ([], "no network to average"),
        ([network(1.0), network(1.0, step=5)], "'step' .* not floating-point"),
        ([network(1.0), network([1.0])], "'w' .* shape"),
        ([network(1.0), network(1.0, jnp.float16)], "'w' .* type"),
        ([network(1.0), {"w": jnp.ones(())}], "missing in the second"),
    ],
)
def test_networks_that_do_not_match_are_named(networks, words):
    with pytest.raises(ValueError, match=words):
        averaging.mean(networks)


def oracle(logits):
    logits = logits.astype(np.float64)
    shares = np.exp(logits - logits.max(-1, keepdims=True))
    with np.errstate(divide="ignore"):
        return np.log((shares / shares.sum(-1, keepdims=True)).mean(0))


@pytest.mark.parametrize("shape", [(3, 4), (1, 2, 5), (4, 2, 3, 6)])
def test_ensemble_is_the_log_of_the_mean_prediction(shape):
    logits = 10 * RANDOM.normal(size=shape).astype(np.float32)
    found = averaging.ensemble(logits)
    assert found.shape == shape[1:]
    np.testing.assert_allclose(found, oracle(logits), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(jnp.exp(found).sum(-1), 1, rtol=1e-5)


def test_ensemble_of_extreme_and_masked_logits_is_finite():
    logits = np.float32([[1e4, -1e4, -np.inf], [-1e4, 1e4, -np.inf]])
    found = averaging.ensemble(logits)
    np.testing.assert_allclose(found, [np.log(0.5), np.log(0.5), -np.inf], rtol=1e-6)
    assert averaging.ensemble(logits.astype(np.float16)).dtype == jnp.float32
    gradient = jax.grad(lambda x: averaging.ensemble(x)[0])(logits)
    assert jnp.isfinite(gradient).all()


@pytest.mark.parametrize("shape", [(3,), (), (0, 4, 2)])
def test_ensemble_refuses_what_has_no_networks_or_classes(shape):
    with pytest.raises(ValueError, match=r"\[networks, ..., classes\]"):
        averaging.ensemble(np.zeros(shape, np.float32))
