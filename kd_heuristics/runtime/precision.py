"""Types wide enough to compute in, also under strict promotion."""

from typing import Any

import jax
import jax.numpy as jnp


def common_type(*dtypes: Any) -> Any:
    """Returns the type that holds all of these.

    >>> common_type(jnp.bfloat16, jnp.float32)
    dtype('float32')
    """
    with jax.numpy_dtype_promotion("standard"):
        return jnp.result_type(*dtypes)


def widened(value: Any) -> jax.Array:
    """Converts a number or array to float32, or keeps its type if that is wider."""
    array = jnp.asarray(value)
    return array.astype(common_type(array.dtype, jnp.float32))
