"""What a study is, and what a run of it shares."""

import dataclasses
import functools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from experiments.common import fields
from experiments.common.plan import Plan
from experiments.common.protocol import Entries, deviations
from experiments.common.task import Task
from kd_heuristics import checkpoints, runs, training
from kd_heuristics.plots import Figure
from kd_heuristics.runs import Claim
from kd_heuristics.runs import claims as rules
from kd_heuristics.runtime import nearest


@dataclasses.dataclass(frozen=True)
class Job:
    """One job of a sweep.

    Attributes:
      group: what competes: of a group's jobs the best on validation images is reported.
      config: of the study.
    """

    group: str
    config: Any


def _no_plan(config: Any) -> Plan:
    """The plan of a study that trains nothing."""
    return Plan(sets=(), trainings=())


def _no_needs(config: Any) -> None:
    """The needs of a study that reads no file of its config's."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
    """A study as the command line, `reproduce` and the report see it.

    The six declarations look alike on purpose: each names its own parts.

    Attributes:
      name: of the module and of the run folder.
      headline: the question in a few words, which the report opens with.
      question: what it answers, for its section of the report.
      paper: who asked.
      answers: keys, or families of keys, of the claims that answer the headline.
      figure: name of the figure that shows the answer; "" without any.
      subject: what is trained on what, with fields of the config.
      presets: `{name: config}`, configs frozen keyword-only dataclasses.
      compute: `(config, folder, progress) -> (results, arrays)`; results hold only
        what config and seeds determine, with the claims' "statistics" by name, [seeds].
      figures: `(config, results, arrays) -> {name: Figure}`, all from the run folder.
      claims: `config -> claims`, written into config.json before the run.
      plan: `config -> Plan`, what a run trains; needs neither data nor devices.
      needs: `config -> None`, raises ValueError if a file that it names is missing.
      protocol: `{preset: entries}` of the paper's own presets, see `protocol.Entry`.
      paper_preset: the one of them that presets of ours lean on.
      jobs: `config -> jobs` of `--sweep`, in an order that stays; None: no sweep.
      scores: `results -> (validation score, what to report)` of a finished job.
      shared: patterns of names of arrays that have no leading axis of seeds.
      extendable: fields of the config that may grow in a run folder: no step that was
        done, and no schedule up to there, depends on them.
      own: `(config, own)`, raises ValueError if the user's networks and images do not
        fit; see `task.showing`. None: the study takes none.

    Raises:
      ValueError: two claims have one key, or `answers` names none.
    """

    name: str
    headline: str
    question: str
    paper: str
    presets: Mapping[str, Any]
    compute: Callable[..., tuple[dict, dict]]
    figures: Callable[[dict, dict, Mapping[str, np.ndarray]], Mapping[str, Figure]]
    claims: Callable[[Any], Sequence[Claim]]
    answers: tuple[str, ...] = ()
    figure: str = ""
    subject: str = ""
    plan: Callable[[Any], Plan] = _no_plan
    needs: Callable[[Any], None] = _no_needs
    protocol: Mapping[str, Entries] = dataclasses.field(default_factory=dict)
    paper_preset: str = "cifar10"
    jobs: Callable[[Any], Sequence[Job]] | None = None
    scores: Callable[[dict], tuple[float, Any]] | None = None
    shared: tuple[str, ...] = ()
    extendable: tuple[str, ...] = ()
    own: Callable[[Any, Any], Any] | None = None

    def __post_init__(self):
        for config in self.presets.values():
            rules.check(self.claims(fields.resolved(config)))
        self.check_keys(self.answers, f"study {self.name!r}")

    def check_keys(self, names: Sequence[str], owner: str) -> None:
        """Raises ValueError where a name is of no claim of any preset."""
        presets = map(fields.resolved, self.presets.values())
        found = (self.claims(config) for config in presets)
        keys = [*dict.fromkeys(claim.key for claims in found for claim in claims)]
        for name in names:
            if not any(rules.covers(name, key) for key in keys):
                nearest.choose(name, keys, f"claim, which {owner} names:")

    def leans_on(self, config: Any) -> str:
        """The paper's preset that a resolved config is made from, or leans on.

        The closest preset, by the number of fields that differ, is the one that flags
        or a sweep changed; if that is ours it leans on `paper_preset`.
        """
        presets = {name: fields.resolved(own) for name, own in self.presets.items()}
        closest = min(presets, key=lambda name: len(deviations(config, presets[name])))
        return closest if closest in self.protocol else self.paper_preset

    @property
    def opening(self) -> dict[str, Any]:
        """What the report's opening shows of it, as config.json has it."""
        names = ("headline", "question", "paper", "answers", "figure")
        return {"study": self.name} | {name: getattr(self, name) for name in names}


@dataclasses.dataclass(frozen=True, eq=False)
class StudyRun:
    """What every run of a study needs: seeds, metrics, stages, trained populations.

    Attributes:
      config: of the study, with the fields of `config.Common`.
      folder: the run folder.
      progress: the bar; one training step is its unit.
      by: the study's `compute`, whose code decides whether checkpoints are used again.
    """

    config: Any
    folder: runs.RunFolder
    progress: Any
    by: Callable

    @property
    def seeds(self) -> range:
        """The seeds of the run."""
        return range(self.config.first_seed, self.config.first_seed + self.config.seeds)

    @functools.cached_property
    def metrics(self) -> training.MetricsFile:
        """The metrics of all trainings, a line each logged step."""
        return training.MetricsFile(self.folder.path / "metrics.jsonl")

    def stage(self, name: str, compute: Callable, *arguments: Any) -> dict:
        """Arrays of `compute(*arguments)`, read if that stage is finished."""
        return self.folder.stage(name, functools.partial(compute, *arguments))

    def train(
        self,
        name: str,
        members: Sequence[training.Member],
        its: Task,
        epochs: int,
        unit: float = 1.0,
        **options: Any,
    ) -> training.TrainState:
        """Trains a population for some epochs of a task and logs each epoch.

        Args:
          name: of its folder of checkpoints.
          members: the networks.
          its: the task that gives batches and devices.
          epochs: length of the training.
          unit: steps of this training that the bar counts as one.
          **options: further ones of `population`.
        """
        return self.population(
            name,
            members,
            its.batches,
            num_steps=epochs * its.steps_per_epoch,
            log_every_steps=its.steps_per_epoch,
            mesh=its.mesh,
            unit=unit,
            **options,
        )

    def population(
        self,
        name: str,
        members: Sequence[training.Member],
        batches: Callable,
        *,
        log_every_steps: int,
        evaluate: Callable | None = None,
        keep_steps: Collection[int] = (),
        unit: float = 1.0,
        **options: Any,
    ) -> training.TrainState:
        """Trains a population, or what is left of it, and returns its last state.

        Args:
          name: of its folder of checkpoints.
          members: the networks.
          batches: as `training.population` takes them.
          log_every_steps: see `training.Logging`.
          evaluate: see `training.Logging`.
          keep_steps: see `training.Checkpoints`.
          unit: steps of this training that the bar counts as one.
          **options: further ones of `training.population`.
        """
        return training.population(
            members,
            batches,
            logging=training.Logging(
                self.metrics,
                log_every_steps=log_every_steps,
                evaluate=evaluate,
                progress=lambda steps, loss: self.progress.advance(steps / unit, loss),
            ),
            checkpoints=training.Checkpoints(
                # The objectives lead to the network, which may be the user's.
                self.folder.training(name, [self.by, *(m.objective for m in members)]),
                keep_steps=keep_steps,
            ),
            **self.config.how,
            **options,
        )

    def restore(self, name: str, step: int) -> Mapping[str, Any]:
        """The state of a population at a step that was kept, members stacked."""
        return checkpoints.restore(self.folder.checkpoints(name), step=step)

    def logged(
        self,
        stage: str,
        names: Iterable[str],
        every: int = 1,
        seeds: Iterable[int] | None = None,
    ) -> dict[str, np.ndarray]:
        """Logged metrics of a stage, `{"STAGE/NAME": float [seeds, points]}`.

        Args:
          stage: the members' stages without "-seed0".
          names: of the metrics.
          every: takes the steps that it divides.
          seeds: of the members; `None` takes the run's.
        """
        lines = [
            [
                row
                for row in self.metrics.read(f"{stage}-seed{seed}")
                if row["step"] % every == 0
            ]
            for seed in (self.seeds if seeds is None else seeds)
        ]
        return {
            f"{stage}/{name}": np.array(
                [[row[name] for row in own] for own in lines], float
            )
            for name in names
        }


def stacked(
    found: Sequence[Mapping[str, np.ndarray]], axis: int = 0
) -> dict[str, np.ndarray]:
    """Stacks arrays of the same names, for instance those of each seed.

    >>> stacked([{"a": np.zeros(2)}, {"a": np.ones(2)}])["a"].tolist()
    [[0.0, 0.0], [1.0, 1.0]]
    """
    return {name: np.stack([own[name] for own in found], axis) for name in found[0]}
