"""What happens between two networks: the straight segment and a fitted chain."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from kd_heuristics import curves, points, schedules, training

PyTree = Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chain:
    """How a one-bend chain is fitted.

    Attributes:
      epochs: of fitting, at the study's batch size.
      rate: learning rate at the start.
      drops_epochs: where the rate is multiplied by `drop_factor`.
      drop_factor: in (0, 1].
      momentum: of SGD; the bend has no weight decay.
      clip_norm: largest global norm of the gradient; None: unclipped.
    """

    epochs: int
    rate: float
    drops_epochs: tuple[int, ...]
    drop_factor: float = 0.1
    momentum: float = 0.0
    clip_norm: float | None = None

    def __post_init__(self):
        if self.epochs < 1:
            raise ValueError(f"the chain needs at least 1 epoch, got {self.epochs}")
        if self.rate <= 0:
            raise ValueError(f"the chain's rate must be positive, got {self.rate}")

    def optimizer(self, steps_per_epoch: int):
        """SGD by this chain's schedule; make it once for all chains of a study."""
        boundaries = [epoch * steps_per_epoch for epoch in self.drops_epochs]
        rate = schedules.step_decay(self.rate, boundaries, self.drop_factor)
        return training.sgd(rate, self.momentum, clip_norm=self.clip_norm)


def chain_objective(ends, objective, bend, batch_stats, batch, key):
    """The loss at a random point of the chain: E over t ~ U(0, 1) of L(phi(t)).

    One t a step, as in Gotmare et al. 2019, section 2.1. Bind `ends` (two trees) and
    `objective` in a `jax.tree_util.Partial`: the same program then fits every chain.
    """
    key_t, key = jax.random.split(key)
    curve = curves.polychain([ends[0], bend, ends[1]])
    return objective(curve.at(jax.random.uniform(key_t)), batch_stats, batch, key)


def paper_t(num_intervals: int) -> np.ndarray:
    """Points t = k / num_intervals with the ends, and the bend's t = 1/2; ascending.

    The paper has 29 intervals and shows k = 1..28.

    >>> paper_t(3).round(3).tolist()
    [0.0, 0.333, 0.5, 0.667, 1.0]
    """
    grid = np.arange(num_intervals + 1) / num_intervals
    return np.union1d(grid, [0.5])


def evaluate(
    curve: Any,
    t: np.ndarray,
    sets: Mapping[str, PyTree],
    metric: Callable,
    progress: Callable[[int], None] | None = None,
) -> dict[str, np.ndarray]:
    """`{"train_loss": [points], ...}`: each metric on each set along a curve."""
    return {
        f"{name}_{key}": values
        for name, batches in sets.items()
        for key, values in points.evaluate(
            curve.at, t, batches, metric, progress=progress
        ).items()
    }
