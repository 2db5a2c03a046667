"""Segments to networks whose units are put in the order of G's, beside the chains.

A permutation of units leaves a network's function as it is. The rival explanation of
the barriers on segments is that the modes differ in such a permutation (git re-basin,
Ainsworth et al. 2022, arXiv 2209.04836), or that units collapse between them unless
batch norm's statistics are estimated anew there (REPAIR, Jordan et al. 2022, arXiv
2211.08403).
"""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp

from experiments.common.study import StudyRun
from experiments.common.task import Task
from experiments.mode_connectivity.networks import Networks
from kd_heuristics import alignment, curves, training

Method = Literal["weights", "activations"]


def kind(method: str) -> str:
    """The name of the segments that are aligned by a method."""
    return f"aligned-{method}"


def spec(its: Task, seed: int) -> alignment.Spec:
    """The permutations of a task's network that keep its function.

    Raises: ValueError if there are none.
    """
    network = its.classifier.network
    images = its.classifier.inputs(jnp.asarray(its.train.images[:2]))
    variables = training.with_stats(*its.start(seed))
    found = alignment.spec(network.apply, variables, images)
    if not found.groups:
        raise ValueError(
            f"aligned needs units that can be permuted, and {network.name} has none, "
            f"left alone were {dict(found.left_alone)}; give aligned=()"
        )
    return found


@dataclasses.dataclass(frozen=True)
class Aligned:
    """The networks of a run, the second of each pair with its units in G's order.

    Attributes:
      run: the run.
      its: the task whose training images activations are of.
      nets: the trained modes.
      spec: of `spec`.
    """

    run: StudyRun
    its: Task
    nets: Networks
    spec: alignment.Spec

    def end(self, kind: str, pair: str, seed: int) -> Any:
        """The parameters of a pair's second mode, permuted; as they are if not finite.

        Args:
          kind: of `kind`, for a method.
          pair: "GA" for the networks G and A.
          seed: of both networks, and of the order in which groups are matched.
        """
        a, b = (self.nets.variables(mode, seed) for mode in pair)
        if not all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves((a, b))):
            return b["params"]
        method = kind.removeprefix("aligned-")
        batches = self._inputs() if method == "activations" else None
        key = jax.random.key(seed)
        found = alignment.align(
            a, b, self.spec, key=key, method=method, batches=batches
        )
        # Placed anew: arrays bound to a device would be another program's.
        return self.its.place(found["params"])

    def curve(self, kind: str, pair: str, seed: int, epoch: int | None = None) -> Any:
        """The segment from G to the permuted network; in place of `Networks.curve`."""
        del epoch  # nothing is fitted
        return curves.line(self.nets.mode(pair[0], seed), self.end(kind, pair, seed))

    def _inputs(self) -> jax.Array:
        """The training images in whole batches, [batches, examples, ...]."""
        images = self.its.train.take(self.run.config.eval_examples).images
        size = min(self.run.config.eval_batch_size, len(images))
        whole = jnp.asarray(images[: len(images) // size * size])
        return self.its.classifier.inputs(whole).reshape(-1, size, *images.shape[1:])
