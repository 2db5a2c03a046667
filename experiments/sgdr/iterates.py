"""Iterates of the trained runs, read from their checkpoints."""

from experiments.common.study import StudyRun
from experiments.common.task import Task
from experiments.common.trained import Trained
from experiments.sgdr.config import Pair


class Iterates:
    """Reads the parameters w_n of each run after epoch n.

    Attributes:
      runs: arm and seed of each member of the population "train", in order.
    """

    def __init__(self, run: StudyRun, its: Task):
        self.runs = [(arm, seed) for seed in run.seeds for arm in run.config.arms]
        self._task = its
        self._trained = Trained(run, its, "train", self.runs, kept=4)

    def at(self, arm: str, seed: int, epoch: int):
        """Returns the parameters of a run after an epoch, counted from 0."""
        return self.variables(arm, seed, epoch)["params"]

    def variables(self, arm: str, seed: int, epoch: int):
        """Returns the parameters and statistics of a run after an epoch."""
        return self._trained.at((arm, seed), self._task.steps_after(epoch))

    def ends(self, arm: str, seed: int, pair: Pair):
        """Returns the two iterates of a pair."""
        return tuple(self.at(arm, seed, epoch) for epoch in pair)
