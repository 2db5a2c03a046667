"""Leaves of a pytree: typed random keys, and types and shapes in words."""

from typing import Any

import jax
import numpy as np


def is_key(leaf: Any) -> bool:
    """Whether a leaf, or its shape, consists of typed keys.

    >>> is_key(jax.random.key(0)), is_key(jax.random.PRNGKey(0)), is_key(1.0)
    (True, False, False)
    """
    dtype = getattr(leaf, "dtype", None)
    return dtype is not None and jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key)


def key_data(leaf: Any) -> Any:
    """Returns the numbers of typed keys, and any other leaf unchanged.

    >>> key_data(jax.random.key(3)).tolist(), key_data(1.0)
    ([0, 3], 1.0)
    """
    return jax.random.key_data(leaf) if is_key(leaf) else leaf


def described(leaf: Any) -> str:
    """Describes the type and shape of a leaf for a message.

    >>> described(np.zeros((2, 3), np.float32))
    'float32[2, 3]'
    """
    dtype = leaf.dtype if hasattr(leaf, "dtype") else np.asarray(leaf).dtype
    return f"{dtype}{list(np.shape(leaf))}"
