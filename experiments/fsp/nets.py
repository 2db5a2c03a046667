"""The single nets of the FSP study: their names, where hints are, how they vote."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from experiments.common import teaching
from experiments.fsp.rows import Row
from kd_heuristics import distill, models, training
from kd_heuristics.runtime.compiled import jit

Net = tuple[int, int]  # seed, number


def is_map(name: str) -> bool:
    """Whether a layer is one that a flow matrix may join."""
    return name.endswith(("relu", "block"))


@dataclasses.dataclass(frozen=True)
class Shuffled:
    """`((variables, orders), batch) -> flow matrices` of a teacher, in that order."""

    classifier: training.Classifier
    read: teaching.Matrices

    def __call__(self, variables, batch):
        variables, orders = variables
        matrices = teaching.Taught(self.classifier, self.read)(variables, batch)
        return distill.shuffled(matrices, orders)


def first_row(rows: Mapping[str, Row], arm: str) -> str:
    """The first row with the same first stage.

    >>> from experiments.fsp.rows import SMALL
    >>> first_row(SMALL, "small_fsp_kd")
    'small_fsp'
    """
    own = rows[arm]
    return next(
        name
        for name, row in rows.items()
        if (row.size, row.start, row.part) == (own.size, own.start, own.part)
    )


def guides(shapes: Mapping[str, Any], count: int) -> tuple[str, ...]:
    """Where a ResNet's hints are: the outputs of its middle section, or of all three.

    Raises: ValueError where there are more hints than sections, or an even number.
    """
    outputs = [section[-1] for section in models.sections(shapes)]
    if count > len(outputs) or count % 2 == 0:
        raise ValueError(f"{count} hints are not the middle of {len(outputs)} sections")
    first = (len(outputs) - count) // 2
    return tuple(outputs[first : first + count])


def number(net: Net) -> int:
    """The seed of one net: its start, batches and order.

    >>> number((2, 1))
    201
    """
    return 100 * net[0] + net[1]


def stage_name(arm: str, net: Net) -> str:
    """The name of one training.

    >>> stage_name("teacher", (2, 1))
    'teacher-seed2-net1'
    """
    return f"{arm}-seed{net[0]}-net{net[1]}"


def vote(probabilities: np.ndarray, labels: np.ndarray, mask: np.ndarray) -> float:
    """Accuracy of the mean of predictions [nets, batches, batch, classes]."""
    right = np.asarray(probabilities, np.float64).mean(0).argmax(-1) == labels
    return float(right[mask].mean())


@functools.partial(jit, static_argnums=0)
def probabilities(classifier, params, batch_stats, batches):
    """Of each class, for each example, [batches, batch, classes]."""
    variables = training.with_stats(params, batch_stats)

    def one(images):
        return classifier.network.apply(variables, classifier.inputs(images))

    return jax.nn.softmax(jax.lax.map(one, batches["images"]), -1)


def distance(weight, student, teacher):
    """Of flow matrices, [batch]."""
    return distill.fsp_distance(student, teacher, weights=weight)
