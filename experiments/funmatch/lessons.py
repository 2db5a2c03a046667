"""Objectives of the FunMatch study's students, and inputs of their teachers.

All are functions of a batch of originals and a key. Equal objects compare equal, so
seeds, lengths and teachers of one architecture share a compiled program.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

from kd_heuristics import data, distill, training
from kd_heuristics.data.views import View

PyTree = Any


def shown(view: View, batch: dict[str, Any], key: jax.Array) -> dict[str, Any]:
    """Applies a view to a batch of originals, or to crops that a stream has cut."""
    if "images" not in batch:
        return view.finish(batch, key)
    return {**batch, **view(batch["images"], key)}


@dataclasses.dataclass(frozen=True)
class Matching:
    """Mean KL divergence from the teacher's prediction; ignores labels.

    `(temperature, teacher, params, batch_stats, batch, key) -> (scalar, ...)`: bind the
    first two with `jax.tree_util.Partial`. The teacher is a function of the view's
    output, and of "index" if the batch has it.

    Attributes:
      student: network and pixel statistics.
      view: which pixels teacher and student see.
    """

    student: training.Classifier
    view: View

    def __call__(self, temperature, teacher, params, batch_stats, batch, key):
        seen = shown(self.view, batch, key)
        variables = training.with_stats(params, batch_stats)
        inputs = self.student.inputs(seen["student"])
        logits, batch_stats = self.student.network.train(variables, inputs, key)
        targets = teacher(seen)
        loss = distill.kl(logits, targets, temperature).mean()
        metrics = {
            "loss": loss,
            "kl": distill.kl(logits, targets).mean(),
            "agreement": _same(logits, targets).mean(),
        }
        return loss, (batch_stats, metrics)


@dataclasses.dataclass(frozen=True)
class Labels:
    """Mean cross-entropy to labels, mixed as the view mixes images.

    Attributes:
      student: network and pixel statistics.
      view: which pixels the student sees; the teacher's are not used.
    """

    student: training.Classifier
    view: View

    def __call__(self, params, batch_stats, batch, key):
        seen = shown(self.view, batch, key)
        variables = training.with_stats(params, batch_stats)
        inputs = self.student.inputs(seen["student"])
        logits, batch_stats = self.student.network.train(variables, inputs, key)
        labels = jax.nn.one_hot(batch["labels"], logits.shape[-1])
        targets = data.views.mix(labels, seen["mixup"])
        loss = optax.softmax_cross_entropy(logits, targets).mean()
        return loss, (batch_stats, {"loss": loss})


@dataclasses.dataclass(frozen=True)
class Sees:
    """`(variables, seen) -> logits` in evaluation mode, for a `distill.Teacher`.

    Attributes:
      classifier: network and pixel statistics.
      whose: whose pixels it sees, "teacher" or "student".
    """

    classifier: training.Classifier
    whose: str = "teacher"

    def __call__(self, variables, seen):
        inputs = self.classifier.inputs(seen[self.whose])
        return self.classifier.network.apply(variables, inputs)


@dataclasses.dataclass(frozen=True)
class Looks:
    """`(variables, pixels) -> logits` in evaluation mode, for a `distill.Teacher`."""

    classifier: training.Classifier

    def __call__(self, variables, pixels):
        return self.classifier.network.apply(variables, self.classifier.inputs(pixels))


@dataclasses.dataclass(frozen=True)
class Held:
    """Metrics of each held-out example, against its label and its teacher's logits.

    `(params, batch_stats, batch) -> {name: [batch]}`, for a batch with pixels as the
    student sees them in evaluation, "labels", "teacher" logits and "mask".
    """

    student: training.Classifier

    def __call__(self, params, batch_stats, batch):
        variables = training.with_stats(params, batch_stats)
        inputs = self.student.inputs(batch["images"])
        logits = self.student.network.apply(variables, inputs)
        values = training.cross_entropy_and_accuracy(logits, batch["labels"])
        return {
            **values,
            "kl": distill.kl(logits, batch["teacher"]),
            "agreement": _same(logits, batch["teacher"]),
            "mask": batch["mask"],
        }


@dataclasses.dataclass(frozen=True)
class Gaps:
    """Each example's part of the calibration error by bin, for batches as `Held`'s."""

    student: training.Classifier

    def __call__(self, params, batch_stats, batch):
        variables = training.with_stats(params, batch_stats)
        inputs = self.student.inputs(batch["images"])
        logits = self.student.network.apply(variables, inputs)
        gaps = jnp.moveaxis(distill.calibration_gaps(logits, batch["labels"]), -1, 0)
        return {f"gap{bin_}": gap for bin_, gap in enumerate(gaps)} | {
            "mask": batch["mask"]
        }


def _same(logits, targets):
    """Whether the largest logits agree, float32 [batch]."""
    return (logits.argmax(-1) == targets.argmax(-1)).astype(jnp.float32)
