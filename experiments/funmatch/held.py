"""The held-out sets of the FunMatch study, as its students see them."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from experiments.funmatch import lessons
from experiments.funmatch.config import Config
from experiments.funmatch.sets import CHUNK, Sets, batched, logits, looks
from kd_heuristics import distill, training


class HeldOut:
    """Held-out images as a student sees them, each with the logits of its teacher.

    Args:
      config: of the study.
      sets: whose `held` these are.
      mesh: of the devices; None: one.
      teacher: makes the teacher as a function of pixels, when it is first asked.
    """

    def __init__(
        self,
        config: Config,
        sets: Sets,
        mesh: jax.sharding.Mesh | None,
        teacher: Callable[[], distill.Teacher],
    ):
        self.config, self.sets, self.mesh, self.teacher = config, sets, mesh, teacher
        self.targets_on = functools.cache(self._targets_on)
        self.kept_looks = functools.cache(self._kept_looks)

    def metrics(
        self,
        classifier: training.Classifier,
        size: int,
        split: str,
        state: training.TrainState,
    ) -> dict[str, Any]:
        """Metrics of students that see `size` pixels a side, a value a member each."""
        metric, total = lessons.Held(classifier), {}
        count = len(self.sets.held[split])
        for part, batches in self.looks(split, size):
            values = training.evaluate_members(metric, state, batches)
            for key, value in values.items():
                name = f"{split}_{key}"
                total[name] = total.get(name, 0.0) + value * part / count
        return total

    def teacher_accuracy(self) -> dict[str, float]:
        """The teacher's own accuracy on both sets."""
        return {
            split: float((self.targets_on(split).argmax(-1) == held.labels).mean())
            for split, held in self.sets.held.items()
        }

    def looks(self, split: str, size: int) -> Any:
        """A set as a student sees it, with its teacher's logits, in chunks."""
        if len(self.sets.held[split]) > CHUNK:
            return self._chunks(split, size)
        return self.kept_looks(split, size)

    def _kept_looks(self, split: str, size: int) -> Any:
        return list(self._chunks(split, size))

    def _chunks(self, split: str, size: int) -> Any:
        config, start = self.config, 0
        for count, batches in looks(
            self.sets.held[split],
            config.eval_batch_size,
            size,
            config.fraction,
            mesh=self.mesh,
        ):
            own = self.targets_on(split)[start : start + count]
            start += count
            yield count, {**batches, "teacher": batched(own, batches["images"])}

    def _targets_on(self, split: str) -> np.ndarray:
        """The teacher's logits of a set."""
        config = self.config
        return logits(
            self.teacher(),
            self.sets.held[split],
            config.eval_batch_size,
            config.teacher_size,
            config.fraction,
            mesh=self.mesh,
        )
