"""The rate of a large batch from that of a small one."""

from jax.typing import ArrayLike

from kd_heuristics.runtime import values


def linear_scaling(
    base_rate: ArrayLike, base_batch: ArrayLike, batch: ArrayLike
) -> ArrayLike:
    """The linear scaling rule (Goyal et al. 2017, section 2.1).

    rate = base_rate * batch / base_batch

    Args:
      base_rate: a learning rate that suits `base_batch`.
      base_batch: examples a step, above 0.
      batch: examples a step that the rate is wanted for, above 0.

    Raises: ValueError where a known argument is not above 0.

    >>> linear_scaling(0.05, base_batch=100, batch=5000)
    2.5
    """
    arguments = {"base_rate": base_rate, "base_batch": base_batch, "batch": batch}
    for name, value in arguments.items():
        values.require(name, value, 0, "give a rate and two batch sizes", strict=True)
    return base_rate * batch / base_batch
