"""Mixes each image with its neighbour in the batch (mixup).

Source: Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization", in the variant
of Beyer et al. 2022. It draws one coefficient per batch and takes partners by a roll,
so that all pairs differ.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32


def mixup_coefficient(key: jax.Array, p: float) -> Float32[Array, ""]:
    """Draws one a = max(b, 1 - b), b ~ Beta(p, p), for the whole batch; 1 for p = 0.

    The paper draws b uniformly in [0, 1] (p = 1). Its code takes the maximum, so that
    an image always weighs at least as much as its partner; the pairs stay the same.
    """
    if not p:
        return jnp.float32(1)
    # Beta(1, 1) is uniform, which needs no rejection loop.
    kind = {"shape": (), "dtype": jnp.float32}
    drawn = (
        jax.random.uniform(key, **kind)
        if p == 1
        else jax.random.beta(key, p, p, **kind)
    )
    return jnp.maximum(drawn, 1 - drawn)


def mix(
    values: Float[Array, "b *rest"], coefficient: Float[Array, ""] | float
) -> Float[Array, "b *rest"]:
    """Computes a * values[i] + (1 - a) * values[i - 1]; the first pairs with the last.

    Apply it to images and, in supervised training, with the same coefficient to one-hot
    labels.

    Args:
      values: examples along the first axis.
      coefficient: a, from `mixup_coefficient` or a view's "mixup".

    >>> mix(jnp.array([[1.0, 0.0], [0.0, 1.0]]), 0.75).tolist()
    [[0.75, 0.25], [0.25, 0.75]]
    """
    return coefficient * values + (1 - coefficient) * jnp.roll(values, 1, 0)
