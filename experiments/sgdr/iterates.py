"""The iterates of the trained runs, read from their checkpoints."""

import functools

import jax

from experiments.common.study import StudyRun
from experiments.common.task import Task
from experiments.sgdr.config import ARMS, Pair


class Iterates:
    """Parameters w_n of each run after its epoch n.

    Attributes:
      runs: arm and seed of each member of the population "train", in order.
    """

    def __init__(self, run: StudyRun, its: Task):
        self.runs = [(arm, seed) for seed in run.seeds for arm in ARMS]
        self._run, self._task = run, its
        self._read = functools.lru_cache(maxsize=4)(self._read_epoch)

    def _read_epoch(self, epoch: int):
        """The parameters of all runs after an epoch, stacked."""
        state = self._run.restore("train", self._task.steps_after(epoch))
        return self._task.place(state["params"])

    def at(self, arm: str, seed: int, epoch: int):
        """The parameters of one run after an epoch, counted from 0."""
        index = self.runs.index((arm, seed))
        return jax.tree.map(lambda leaf: leaf[index], self._read(epoch))

    def ends(self, arm: str, seed: int, pair: Pair):
        """The two iterates of a pair."""
        return tuple(self.at(arm, seed, epoch) for epoch in pair)
