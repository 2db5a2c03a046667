"""What of a training's compiled call stays the same from call to call."""

import dataclasses
import inspect
from typing import Any

import jax
import jax.numpy as jnp
import optax

from kd_heuristics.compiled import as_partial
from kd_heuristics.integers import LARGEST, integer


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Recipe:
    """The functions of a training as `jax.tree_util.Partial`, and its seed.

    `update` takes optax's extra arguments, whether or not the optimiser uses them.
    """

    objective: Any
    update: Any
    seed: Any

    @classmethod
    def of(cls, objective: Any, optimizer: optax.GradientTransformation, seed: Any):
        """The recipe of what `fit` is given."""
        update = as_partial(optimizer.update)
        # By the signature: optax.MultiSteps hides the type.
        arguments = inspect.signature(optimizer.update).parameters.values()
        if all(argument.kind is not argument.VAR_KEYWORD for argument in arguments):
            update = jax.tree_util.Partial(_without_extra, update)
        number = integer(
            "seed", seed, -LARGEST - 1, LARGEST, "it is an int32: take seed % 2**31"
        )
        return cls(as_partial(objective), update, jnp.int32(number))


def _without_extra(update, gradient, state, params, **_):
    return update(gradient, state, params)


@dataclasses.dataclass(frozen=True)
class Form:
    """What of a compiled call is static.

    Attributes:
      members: "one", or "map" or "vmap" over a leading axis of recipe and state.
      at_once: with "vmap", the largest number of members at a time; `None` runs all.
      micro_batches: parts of a batch whose gradients are averaged.
      mesh: the devices over which each batch is split; None: wherever the data lies.
      spread: what the mesh splits, each batch ("examples") or the population
        ("members", with "vmap" over all of them).
      batch_norm: "global": statistics of the whole batch, or of a part of it; "device":
        of each device's examples.
      on_nonfinite: "raise" finds the first step that is not finite, "skip" leaves such
        updates out, "record" does neither.
    """

    members: str = "one"
    at_once: int | None = None
    micro_batches: int = 1
    mesh: jax.sharding.Mesh | None = None
    on_nonfinite: str = "record"
    spread: str = "examples"
    batch_norm: str = "global"

    @property
    def per_device(self) -> bool:
        """Whether batch norm sees each device's examples alone."""
        return self.batch_norm == "device" and self.batch_mesh is not None

    @property
    def batch_mesh(self) -> jax.sharding.Mesh | None:
        """The devices over which each batch is split."""
        return self.mesh if self.spread == "examples" else None
