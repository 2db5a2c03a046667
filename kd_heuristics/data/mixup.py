"""Mixup: each image with a part of its neighbour in the batch.

Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization"; as Beyer et al. 2022 use
it: one coefficient a batch, and partners by a roll, so that all pairs differ.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32


def mixup_coefficient(key: jax.Array, p: float) -> Float32[Array, ""]:
    """One a = max(b, 1 - b), b ~ Beta(p, p), for the whole batch; 1 for p = 0.

    The paper has b uniform in [0, 1] (p = 1), its code the maximum: which of the two
    images of a pair weighs more is then known, and pairs are as before.
    """
    if not p:
        return jnp.float32(1)
    # Uniform for p = 1, which takes no loop over rejected draws.
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
    """Values a * values[i] + (1 - a) * values[i - 1]; the first one's partner is last.

    For images, and with the same coefficient for one-hot labels of supervised training.

    Args:
      values: an example along the first axis.
      coefficient: a, of `mixup_coefficient`; "mixup" of a view.

    >>> mix(jnp.array([[1.0, 0.0], [0.0, 1.0]]), 0.75).tolist()
    [[0.75, 0.25], [0.25, 0.75]]
    """
    return coefficient * values + (1 - coefficient) * jnp.roll(values, 1, 0)
