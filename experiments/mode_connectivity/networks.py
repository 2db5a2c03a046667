"""The trained modes and the fitted bends, read from their checkpoints."""

from collections.abc import Mapping
from typing import Any

from experiments.common.study import StudyRun
from experiments.common.task import Task
from experiments.common.trained import Trained
from experiments.mode_connectivity.config import MODES, Group
from kd_heuristics import curves

# One program fits the kinds of one form; they differ in the decay on the bend.
FORMS = {"polychain": ("chain", "decayed"), "bezier": ("bezier",)}
MAKE = {"chain": curves.polychain, "decayed": curves.polychain, "bezier": curves.bezier}


def members(run: StudyRun, group: Group) -> list[tuple[str, int]]:
    """Mode and seed of each member of a group's population, in order."""
    modes = [mode for mode in run.config.modes if MODES[mode].group == group]
    return [(mode, seed) for seed in run.seeds for mode in modes]


def fits(run: StudyRun, form: str) -> list[tuple[str, str, int]]:
    """Kind, pair and seed of each curve that is fitted in one population, in order."""
    return [
        (kind, pair, seed)
        for kind in FORMS[form]
        if kind in run.config.kinds
        for pair in run.config.pairs
        for seed in run.seeds
    ]


class Networks:
    """Parameters of the trained modes and of the bends between them."""

    def __init__(self, run: StudyRun, tasks: Mapping[Group, Task]):
        self._config, self._tasks = run.config, tasks
        self._modes = {
            group: Trained(run, its, group, members(run, group))
            for group, its in tasks.items()
        }
        self._bends = {
            kind: bends
            for form, kinds in FORMS.items()
            for bends in [Trained(run, tasks["sgd"], form, fits(run, form))]
            for kind in kinds
        }

    def variables(self, mode: str, seed: int) -> dict[str, Any]:
        """The trained parameters and statistics of a mode."""
        group = MODES[mode].group
        step = self._config.epochs * self._tasks[group].steps_per_epoch
        return self._modes[group].at((mode, seed), step)

    def mode(self, mode: str, seed: int) -> Any:
        """The trained parameters of a mode."""
        return self.variables(mode, seed)["params"]

    def ends(self, pair: str, seed: int) -> tuple:
        """The two modes of a pair."""
        return tuple(self.mode(mode, seed) for mode in pair)

    def bend(self, kind: str, pair: str, seed: int, epoch: int) -> Any:
        """The bend of a curve after `epoch` epochs of fitting."""
        step = epoch * self._tasks["sgd"].steps_per_epoch
        return self._bends[kind].at((kind, pair, seed), step)["params"]

    def curve(self, kind: str, pair: str, seed: int, epoch: int | None) -> Any:
        """The segment of a pair, or a fitted curve after `epoch` epochs of fitting."""
        a, b = self.ends(pair, seed)
        if epoch is None:
            return curves.line(a, b)
        return MAKE[kind]([a, self.bend(kind, pair, seed, epoch), b])
