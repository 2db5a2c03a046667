"""What a training step reads and writes."""

import dataclasses
from typing import Any

import jax

PyTree = Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """All that a run needs to go on: the batch is a function of the seed and the step.

    Attributes:
      step: int32 scalar, the number of steps done.
      params: what the optimiser changes.
      batch_stats: running statistics, `{}` where there are none.
      opt_state: the optax state.
    """

    step: Any
    params: PyTree
    batch_stats: PyTree
    opt_state: PyTree
