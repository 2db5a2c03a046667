"""Lanczos tridiagonalisation with full re-orthogonalisation.

matfree's version divides by zero when the Krylov space ends (at once, if a dead
network's Hessian is 0), and multiplies at the backend's default precision.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp


def lanczos(
    times: Callable[[jax.Array], jax.Array],
    start: jax.Array,
    key: jax.Array,
    num_products: int,
) -> tuple[jax.Array, jax.Array]:
    """Returns an orthonormal basis Q and the tridiagonal matrix T = Q H Q^T.

    When the Krylov space ends, a random vector orthogonal to it continues the basis,
    with 0 beside the diagonal; T therefore also contains repeated eigenvalues.

    Args:
      times: `v -> H v`, H symmetric.
      start: first basis vector before normalisation, [d].
      key: key of the random vectors.
      num_products: number of basis vectors, at most d.

    Returns: Q [num_products, d] and T [num_products, num_products].
    """
    rounding = 10 * jnp.finfo(start.dtype).eps

    def step(carry, number):
        basis, vector, scale = carry
        basis = basis.at[number].set(vector)
        image = times(vector)
        diagonal = vector @ image
        image = _orthogonal(image, basis)
        beside = jnp.linalg.norm(image)
        scale = jnp.maximum(scale, jnp.maximum(jnp.abs(diagonal), beside))
        ended = beside <= rounding * scale

        def fresh():
            own = jax.random.fold_in(key, number)
            drawn = jax.random.normal(own, start.shape, start.dtype)
            return _orthogonal(drawn, basis)

        following = _unit(jax.lax.cond(ended, fresh, lambda: image))
        return (basis, following, scale), (diagonal, jnp.where(ended, 0, beside))

    basis = jnp.zeros((num_products, start.size), start.dtype)
    carry = basis, _unit(start), jnp.zeros((), start.dtype)
    steps = jnp.arange(num_products, dtype=jnp.int32)
    (basis, _, _), (diagonal, beside) = jax.lax.scan(step, carry, steps)
    off = jnp.diag(beside[:-1], 1)
    return basis, jnp.diag(diagonal) + off + off.T


def _orthogonal(vector, basis):
    """Projects the basis out of a vector; twice, because rounding leaves a rest."""
    for _ in range(2):
        vector = vector - (basis @ vector) @ basis
    return vector


def _unit(vector):
    """Normalises a vector; 0 stays 0."""
    length = jnp.linalg.norm(vector)
    return vector / jnp.where(length == 0, 1, length)
