"""Types wide enough to compute in, also where JAX's promotion is strict."""

from typing import Any

import jax
import jax.numpy as jnp


def common_type(*dtypes: Any) -> Any:
    """The type that holds all of these.

    >>> common_type(jnp.bfloat16, jnp.float32)
    dtype('float32')
    """
    with jax.numpy_dtype_promotion("standard"):
        return jnp.result_type(*dtypes)


def widened(value: Any) -> jax.Array:
    """A number or array in float32, or in its own type where that is wider."""
    array = jnp.asarray(value)
    return array.astype(common_type(array.dtype, jnp.float32))
