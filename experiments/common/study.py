"""What a study is."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from experiments.common import fields
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
    """A study as the command line, `reproduce` and the report see it.

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
        what config and seeds determine.
      figures: `(config, results, arrays) -> {name: Figure}`, all from the run folder.
      claims: `config -> claims`, written into config.json before the run.
      paper_preset: the preset with the paper's own values.
      jobs: `config -> jobs` of `--sweep`, in an order that stays; None: no sweep.
      scores: `results -> (validation score, what to report)` of a finished job.
      extendable: fields of the config that may grow in a run folder: no step that was
        done, and no schedule up to there, depends on them.

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
    paper_preset: str = "cifar10"
    jobs: Callable[[Any], Sequence[Job]] | None = None
    scores: Callable[[dict], tuple[float, Any]] | None = None
    extendable: tuple[str, ...] = ()

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

    @property
    def opening(self) -> dict[str, Any]:
        """What the report's opening shows of it, as config.json has it."""
        names = ("headline", "question", "paper", "answers", "figure")
        return {"study": self.name} | {name: getattr(self, name) for name in names}
