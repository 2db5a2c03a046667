"""JAX's global settings under which our functions give the same numbers."""

import jax
import numpy as np

enable_x64 = (
    jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64
)

MODES = {
    "x64": lambda: enable_x64(True),
    "disable_jit": jax.disable_jit,
    "debug_nans": lambda: jax.debug_nans(True),
    "strict promotion": lambda: jax.numpy_dtype_promotion("strict"),
    "bfloat16 products": lambda: jax.default_matmul_precision("bfloat16"),
}


def assert_same(found, expected, **tolerances):
    """Equal types and, but for the rounding of floats, equal values, leaf by leaf."""

    def check(found, expected):
        assert found.dtype == expected.dtype
        if np.issubdtype(np.asarray(expected).dtype, np.floating):
            np.testing.assert_allclose(found, expected, **tolerances)
        else:
            np.testing.assert_array_equal(found, expected)

    jax.tree.map(check, found, expected)
