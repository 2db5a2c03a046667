"""Types are widened alike under standard and strict promotion."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kd_heuristics import distill, training
from kd_heuristics.models import normalization
from kd_heuristics.runtime import precision

STRICT = pytest.mark.parametrize("promotion", ["standard", "strict"])
NARROW = pytest.mark.parametrize("dtype", ["bfloat16", "float16", "int8", "bool"])


@STRICT
@NARROW
def test_narrow_types_become_float32(promotion, dtype):
    value = jnp.ones(3, dtype)
    with jax.numpy_dtype_promotion(promotion):
        found = precision.widened(value)
    assert found.dtype == jnp.float32
    np.testing.assert_array_equal(found, np.ones(3, np.float32))


@STRICT
def test_wider_types_stay(promotion):
    with jax.numpy_dtype_promotion(promotion):
        assert precision.widened(jnp.zeros(2, jnp.complex64)).dtype == jnp.complex64
        assert precision.common_type(jnp.bfloat16, jnp.float16) == jnp.float32


def _of_ema(narrow):
    optimizer = training.ema(optax.sgd(0.5), 0.5)
    return training.ema_params(optimizer.init(narrow))


def _of_norm(narrow):
    norm, images = normalization.GroupNorm(groups=1), narrow[:, None, None]
    return norm.apply(norm.init(jax.random.key(0), images), images)


def _of_losses(narrow):
    return distill.kl(narrow, narrow.astype(jnp.float32) + 1)


@pytest.mark.parametrize("function", [_of_ema, _of_norm, _of_losses])
def test_strict_promotion_takes_narrow_types(function):
    narrow = jnp.linspace(0, 1, 8).reshape(2, 4).astype(jnp.bfloat16)
    expected = function(narrow)
    with jax.numpy_dtype_promotion("strict"):
        found = function(narrow)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)
