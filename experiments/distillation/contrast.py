"""CRD in the table of losses, whose memory bank is a state beside the network's.

The numbers are those of the paper (Tian et al. 2020): weight 0.8 beside labels of
weight 1, embeddings of size 128 by a linear layer of each network, and for each example
as many negatives of other classes as a third of the set has examples. The normalisers
of the authors' code, its means over the first batch, are here those of the bank at the
start: it is random, so both estimate the same number.

A student's parameters are `{"student": ..., "projections": ...}` and its state is
`{"student": its running statistics, "bank": ...}`, which training carries as it does
running statistics.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common import teaching
from experiments.common.task import Task
from experiments.distillation.networks import Networks
from kd_heuristics import distill, training

PyTree = Any
WEIGHT = 0.8
SIZE = 128
SHARE = 16_384 / 50_000  # negatives of an example, as a share of the set
TEMPERATURE = 0.07


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Others:
    """The examples of other classes than a label's.

    Attributes:
      order: int [n], the examples of a set, sorted by label.
      ends: int [classes], places in `order` after the last example of each class.
      counts: int [classes], examples of each class.
    """

    order: Any
    ends: Any
    counts: Any

    @classmethod
    def of(cls, labels: np.ndarray, num_classes: int) -> "Others":
        """Sorts the examples of a set by their labels, [n]."""
        counts = np.bincount(labels, minlength=num_classes)
        found = np.argsort(labels, kind="stable"), np.cumsum(counts), counts
        return cls(*(jnp.asarray(values, jnp.int32) for values in found))

    def draw(self, labels: jax.Array, count: int, key: jax.Array) -> jax.Array:
        """Draws examples of other classes, with replacement, int [batch, count]."""
        size = len(self.order)
        others = (size - self.counts[labels])[:, None]
        drawn = jax.random.randint(key, (len(labels), count), 0, others)
        return self.order[(self.ends[labels][:, None] + drawn) % size]


@dataclasses.dataclass(frozen=True)
class Lesson:
    """The objective; bind `teacher`, `others` and `normalizers`, which come first.

    Attributes:
      student: in training mode; shows "logits" and "embedding".
      projections: of the student's and the teacher's embedding.
      negatives: number for each example.
    """

    student: teaching.Student
    projections: tuple[distill.Regressor, ...]
    negatives: int

    def __call__(self, teacher, others, normalizers, params, state, batch, key):
        own, stats = self.student(params["student"], state["student"], batch, key)
        seen = own["embedding"], teacher(batch)["embedding"]
        mine, theirs = (
            layer.apply(weights, features)
            for layer, weights, features in zip(
                self.projections, params["projections"], seen, strict=True
            )
        )
        labels = batch["labels"]
        drawn = others.draw(labels, self.negatives, jax.random.fold_in(key, 1))
        contrast, bank = distill.contrastive(
            mine,
            theirs,
            batch["index"],
            state["bank"],
            drawn,
            temperature=TEMPERATURE,
            normalizers=normalizers,
        )
        hard = distill.hard_labels(own["logits"], labels)
        value = (hard + WEIGHT * contrast).mean()
        right = (own["logits"].argmax(-1) == labels).astype(value.dtype).mean()
        metrics = {"loss": value, "accuracy": right}
        return value, ({"student": stats, "bank": bank}, metrics)


def prepare(
    nets: Networks,
    student: teaching.Student,
    teacher: distill.Teacher,
    start: tuple[PyTree, PyTree],
    seed: int,
) -> tuple[jax.tree_util.Partial, tuple[PyTree, PyTree]]:
    """The objective of a student, and what it starts from.

    Args:
      nets: both networks.
      student: shows "logits" and "embedding".
      teacher: shows the same.
      start: parameters and running statistics of the student.
      seed: of the projections and the bank.
    """
    its = nets.student
    shapes = [
        teaching.shapes(of.classifier, its.train.images)[layers[-2]]
        for of, layers in ((its, nets.layers), (nets.teacher, nets.teacher_layers))
    ]
    embedding = jax.ShapeDtypeStruct((1, SIZE), jnp.float32)
    projections = tuple(distill.regressor(one, embedding, "dense") for one in shapes)
    keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), SIZE), 3)
    bank = distill.init_bank(keys[2], len(its.train), SIZE)
    lesson = Lesson(student, projections, round(SHARE * len(its.train)))
    objective = jax.tree_util.Partial(
        lesson,
        teacher,
        Others.of(its.train.labels, its.train.num_classes),
        (normalizer(bank.teacher), normalizer(bank.student)),
    )
    weights = tuple(
        layer.init(key) for layer, key in zip(projections, keys, strict=False)
    )
    params, stats = start
    return objective, (
        {"student": params, "projections": weights},
        {"student": stats, "bank": bank},
    )


def normalizer(rows: jax.Array) -> jax.Array:
    """Examples times the mean of exp(s . t / temperature) over random unit vectors t.

    The anchors s are the unit vectors of the axes: of random t, any would do.
    """
    return len(rows) * jnp.exp(rows / TEMPERATURE).mean()


def tested(its: Task, state: training.TrainState) -> dict[str, Any]:
    """`Task.tested` of the students in a population of these objectives."""
    params, stats = state.params["student"], state.batch_stats["student"]
    return its.tested(dataclasses.replace(state, params=params, batch_stats=stats))
