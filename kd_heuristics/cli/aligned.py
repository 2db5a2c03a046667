"""A network with its units in the order of another's, for the commands."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from kd_heuristics import alignment
from kd_heuristics.cli import output
from kd_heuristics.cli.subject import Lab
from kd_heuristics.runtime import values
from kd_heuristics.runtime.errors import checking_input

PyTree = Any


def aligned(
    lab: Lab,
    a: PyTree,
    b: PyTree,
    *,
    seed: int,
    method: Literal["weights", "activations"] = "weights",
) -> tuple[PyTree, alignment.Spec]:
    """Returns b with its units permuted onto a's, and the symmetries that were found.

    Args:
      lab: model and data; activations are those of its training images.
      a: variables of a network, as of `Lab.variables`.
      b: variables of another.
      seed: seed of the order in which groups are matched.
      method: see `alignment.align`.
    """
    with checking_input():
        values.seed(seed)
    with output.progress("aligning the units of B with those of A", 2) as advance:
        found = alignment.spec(
            lab.task.network.apply, a, lab.task.inputs(lab.inputs[:2])
        )
        advance(1)
        batches = _inputs(lab) if method == "activations" else None
        key = jax.random.key(seed)
        moved = alignment.align(a, b, found, key=key, method=method, batches=batches)
        advance(1)
    for name, reason in found.left_alone.items():
        output.say(f"left alone: {name} ({reason})")
    return moved, found


def _inputs(lab: Lab) -> jax.Array:
    """Returns the training images, [num_batches, batch, ...], without padding."""
    train = lab.sets["train"]
    mask = np.asarray(train["mask"])
    images = np.asarray(train[lab.key])[mask]
    size = min(mask.shape[1], len(images))
    whole = lab.task.inputs(jnp.asarray(images[: len(images) // size * size]))
    return whole.reshape(-1, size, *images.shape[1:])
