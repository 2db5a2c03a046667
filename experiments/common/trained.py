"""Trained networks, read from the checkpoints of their population."""

import functools
from collections.abc import Hashable
from typing import Any

import jax

from experiments.common.study import StudyRun
from experiments.common.task import Task
from kd_heuristics import training


class Trained:
    """Reads members of a population.

    Args:
      run: the run that trains the population.
      its: the task of the networks.
      name: name of the population in `StudyRun.population`.
      members: a key for each member, in the order of training.
      kept: number of checkpoints kept in memory.
    """

    def __init__(self, run: StudyRun, its: Task, name: str, members, kept: int = 1):
        self.members = list(members)
        self._place = its.place

        @functools.lru_cache(maxsize=kept)
        def read(step):
            state = run.restore(name, step)
            return state["params"], state.get("batch_stats", {})

        self._read = read

    def at(self, member: Hashable, step: int) -> dict[str, Any]:
        """Returns the variables of a member at a step that was kept."""
        index = self.members.index(member)
        own = jax.tree.map(lambda leaf: leaf[index], self._read(step))
        return training.with_stats(*self._place(own))
