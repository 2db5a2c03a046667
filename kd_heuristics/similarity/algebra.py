"""The few matrix operations that the measures share."""

import functools

import jax
import jax.numpy as jnp

# GPUs and TPUs round matrix products to fewer digits unless told not to.
matmul = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)


def adjoint(x: jax.Array) -> jax.Array:
    """Conjugate transpose of the last two axes."""
    return jnp.conj(jnp.swapaxes(x, -1, -2))


def divide_where(where, numerator, denominator) -> jax.Array:
    """The quotient where it is wanted and 0 elsewhere, in derivatives too.

    >>> divide_where(jnp.array([True, False]), 1.0, jnp.array([2.0, 0.0])).tolist()
    [0.5, 0.0]
    """
    return jnp.where(where, numerator / jnp.where(where, denominator, 1), 0)


def squares(x: jax.Array) -> jax.Array:
    """|x|^2 elementwise, real, with a finite derivative at 0 for complex x."""
    return jnp.real(x) ** 2 + jnp.imag(x) ** 2 if jnp.iscomplexobj(x) else x**2
