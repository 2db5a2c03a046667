"""What a compiled call trains by: functions, seed and static options."""

import dataclasses
import inspect
from typing import Any

import jax
import jax.numpy as jnp
import optax

from kd_heuristics.runtime import nearest
from kd_heuristics.runtime.compiled import as_partial
from kd_heuristics.runtime.values import LARGEST, integer


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Recipe:
    """Functions of a training as `jax.tree_util.Partial`, and its seed.

    `update` accepts optax's extra arguments whether or not the optimiser uses them.
    """

    objective: Any
    update: Any
    seed: Any

    @classmethod
    def of(cls, objective: Any, optimizer: optax.GradientTransformation, seed: Any):
        """Returns the recipe for the arguments of `fit`."""
        update = as_partial(optimizer.update)
        # Inspect the signature, because optax.MultiSteps hides the type.
        arguments = inspect.signature(optimizer.update).parameters.values()
        if all(argument.kind is not argument.VAR_KEYWORD for argument in arguments):
            update = jax.tree_util.Partial(_without_extra, update)
        number = integer(
            "seed", seed, -LARGEST - 1, LARGEST, "it is an int32: take seed % 2**31"
        )
        return cls(as_partial(objective), update, jnp.int32(number))


def _without_extra(update, gradient, state, params, **_):
    """Call an update that takes no extra arguments, dropping them."""
    return update(gradient, state, params)


@dataclasses.dataclass(frozen=True)
class StepOptions:
    """Static arguments of a compiled call.

    Attributes:
      members: "one", or "map" or "vmap" over a leading axis of recipe and state.
      at_once: maximum members at a time under "vmap"; `None` runs all.
      micro_batches: parts of a batch whose gradients are averaged.
      mesh: devices over which each batch is split; `None` uses those that hold the
        data.
      spread: what the mesh splits: each batch ("examples") or the population
        ("members", with "vmap" over all of them).
      batch_norm: "global" uses the statistics of the whole batch, or of a micro-batch;
        "device" uses those of each device's examples.
      on_nonfinite: "raise" finds the first non-finite step, "skip" omits such updates,
        "record" does neither.
    """

    members: str = "one"
    at_once: int | None = None
    micro_batches: int = 1
    mesh: jax.sharding.Mesh | None = None
    on_nonfinite: str = "record"
    spread: str = "examples"
    batch_norm: str = "global"

    def __post_init__(self):
        nearest.choose(self.on_nonfinite, ("raise", "skip", "record"), "on_nonfinite")

    @property
    def per_device(self) -> bool:
        """Whether batch norm sees only each device's own examples."""
        return self.batch_norm == "device" and self.batch_mesh is not None

    @property
    def batch_mesh(self) -> jax.sharding.Mesh | None:
        """Devices over which each batch is split."""
        return self.mesh if self.spread == "examples" else None
