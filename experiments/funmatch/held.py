"""Held-out sets of the FunMatch study, as its students see them."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from experiments.funmatch import lessons
from experiments.funmatch.arms import ARMS
from experiments.funmatch.materials import Materials
from experiments.funmatch.sets import CHUNK, batched, logits, looks
from kd_heuristics import distill, training


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """Held-out images as a student sees them, each with the logits of its teacher.

    Attributes:
      its: materials of the run.
      targets: the teacher's logits of each set, float [n, classes].
      kept: chunks of small sets on the device, by set and the student's size.
    """

    its: Materials
    targets: Mapping[str, np.ndarray]
    kept: Mapping[tuple[str, int], list]

    def metrics(
        self,
        classifier: training.Classifier,
        size: int,
        split: str,
        state: training.TrainState,
        kind: Callable = lessons.Held,
    ) -> dict[str, Any]:
        """Evaluates students that see `size` pixels a side; one value per member."""
        metric, total = kind(classifier), {}
        chunks: Iterable = self.kept.get((split, size)) or _chunks(
            self.its, split, self.targets[split], size
        )
        for part, batches in chunks:
            values = training.evaluate_members(metric, state, batches)
            for key, value in values.items():
                name = f"{split}_{key}"
                share = part / len(self.targets[split])
                total[name] = total.get(name, 0.0) + value * share
        return total

    def fidelity(
        self, classifier: training.Classifier, size: int, state: training.TrainState
    ) -> dict[str, Any]:
        """Distance from the teacher on training images too; calibration errors."""
        found = {}
        for split in ("train", "test"):
            if split not in self.targets:  # streamed
                continue
            if split == "train":
                found |= self.metrics(classifier, size, split, state)
            gaps = self.metrics(classifier, size, split, state, lessons.Gaps)
            error = np.abs([*gaps.values()]).sum(0)
            found[f"{split}_calibration_error"] = error
        return found

    def teacher_accuracy(self) -> dict[str, float]:
        """Returns the teacher's accuracy on each set."""
        return {
            split: float((self.targets[split].argmax(-1) == held.labels).mean())
            for split, held in self.its.sets.held.items()
        }


def prepare(its: Materials, teacher: distill.Teacher) -> HeldOut:
    """Evaluates a teacher on the held-out sets, and crops small sets once."""
    config = its.config
    targets = {
        split: logits(
            teacher,
            held,
            config.eval_batch_size,
            config.teacher_size,
            config.fraction,
            mesh=its.mesh,
        )
        for split, held in its.sets.held.items()
    }
    sizes = {config.sizes(ARMS[arm])[1] for arm in config.arms}
    kept = {
        (split, size): list(_chunks(its, split, own, size))
        for split, own in targets.items()
        for size in sizes
        if len(own) <= CHUNK
    }
    return HeldOut(its, targets, kept)


def _chunks(its: Materials, split: str, targets: np.ndarray, size: int) -> Any:
    """Yields the examples of each chunk, and its batches with the teacher's logits."""
    config, start = its.config, 0
    for count, batches in looks(
        its.sets.held[split],
        config.eval_batch_size,
        size,
        config.fraction,
        mesh=its.mesh,
    ):
        own = targets[start : start + count]
        start += count
        yield count, {**batches, "teacher": batched(own, batches["images"])}
