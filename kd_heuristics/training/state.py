"""The state that a training step reads and writes."""

import dataclasses
from typing import Any

import jax

PyTree = Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """State from which a training continues; seed and step determine the batch.

    Attributes:
      step: int32 scalar, the number of completed steps.
      params: parameters that the optimiser updates.
      batch_stats: running statistics and other state of the objective; `{}` if there is
        none.
      opt_state: optax state.
    """

    step: Any
    params: PyTree
    batch_stats: PyTree
    opt_state: PyTree
