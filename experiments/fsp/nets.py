"""The nets of the FSP study: their names, the layers they compare, their votes."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from experiments.common import teaching
from kd_heuristics import distill, training
from kd_heuristics.runtime.compiled import jit

Net = tuple[int, int]  # seed, number


@dataclasses.dataclass(frozen=True)
class Shuffled:
    """`((variables, orders), batch) -> flow matrices` of a teacher, reordered."""

    classifier: training.Classifier
    read: teaching.Matrices

    def __call__(self, variables, batch):
        variables, orders = variables
        matrices = teaching.Taught(self.classifier, self.read)(variables, batch)
        return distill.shuffled(matrices, orders)


def guides(shapes: Mapping[str, Any], count: int) -> tuple[str, ...]:
    """Names the layers of a network's hints: the outputs of its middle sections.

    Args:
      shapes: of the layers that hints may join.
      count: of hints; a network of fewer sections has a hint from each.

    Raises: ValueError for an even number.
    """
    outputs = [last for _, last in distill.sections(shapes).values()]
    if count % 2 == 0:
        raise ValueError(f"{count} hints have no middle; give an odd number")
    first = max(0, len(outputs) - count) // 2
    return tuple(outputs[first : first + count])


def number(net: Net) -> int:
    """The seed of a net, for its start, its batches and the order of its channels.

    >>> number((2, 1))
    201
    """
    return 100 * net[0] + net[1]


def stage_name(arm: str, net: Net) -> str:
    """The name of a net's training in the metrics.

    >>> stage_name("teacher", (2, 1))
    'teacher-seed2-net1'
    """
    return f"{arm}-seed{net[0]}-net{net[1]}"


def vote(probabilities: np.ndarray, labels: np.ndarray, mask: np.ndarray) -> float:
    """Accuracy of the mean prediction of nets, [nets, batches, batch, classes]."""
    right = np.asarray(probabilities, np.float64).mean(0).argmax(-1) == labels
    return float(right[mask].mean())


@functools.partial(jit, static_argnums=0)
def probabilities(classifier, params, batch_stats, batches):
    """Probability of each class for each example, [batches, batch, classes]."""
    variables = training.with_stats(params, batch_stats)

    def one(images):
        return classifier.network.apply(variables, classifier.inputs(images))

    return jax.nn.softmax(jax.lax.map(one, batches["images"]), -1)


def distance(weight, student, teacher):
    """`distill.fsp_distance` with its weight first, to bind it as an array, [batch]."""
    return distill.fsp_distance(student, teacher, weights=weight)
