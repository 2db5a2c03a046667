"""Where a training logs and saves: settings that `fit` and `population` share."""

import dataclasses
import warnings
from collections.abc import Callable, Collection, Mapping
from typing import Any, SupportsIndex

from kd_heuristics.runtime.files import AnyPath
from kd_heuristics.runtime.values import integer
from kd_heuristics.training.metrics import MetricsFile
from kd_heuristics.training.state import TrainState


@dataclasses.dataclass(frozen=True)
class Logging:
    """Metrics lines and progress of a training.

    Attributes:
      metrics: metrics file; `None` disables it. In a population each member has its own
        lines, under its `stage`.
      log_every_steps: steps between metrics lines; a line holds the means since the
        previous one. The steps of `Checkpoints.keep_steps` and the last step also have
        a line.
      evaluate: `state -> {name: number}`, added to each metrics line; the names
        "stage", "step" and "skipped_updates" are reserved. The state is a copy, which
        the function may keep. In a population the state is stacked, and a value may be
        an array [members]; `evaluate_members` covers the usual case.
      progress: called after each compiled call with the number of steps since the
        previous call (steps resumed from a checkpoint count) and the mean loss of the
        call. In a population, steps are counted over all members.

    Raises: TypeError or ValueError unless log_every_steps is an integer above 0.
    """

    metrics: MetricsFile | None = None
    _: dataclasses.KW_ONLY
    log_every_steps: SupportsIndex = 100
    evaluate: Callable[[TrainState], Mapping[str, Any]] | None = None
    progress: Callable[[int, float], None] | None = None

    def __post_init__(self):
        _set(self, log_every_steps=_count("log_every_steps", self.log_every_steps))


@dataclasses.dataclass(frozen=True)
class Checkpoints:
    """Checkpoints of a training, from which the same call resumes.

    Attributes:
      directory: checkpoint folder; `None` disables checkpoints and resuming.
      keep_steps: steps whose checkpoints are kept; 0 is the start.
      keep_last: recent checkpoints to keep in addition to `keep_steps`. With 1, a
        damaged checkpoint cannot be recovered.
      score: `{name: number} -> number` of a metrics line, or of arrays [members] in a
        population. The checkpoint with the highest score is kept too;
        `checkpoints.best` finds it.
      save_every_logs: metrics lines per checkpoint to resume from.

    Raises: TypeError if a count or step is not an integer; ValueError if a count is
      below 1.
    """

    directory: AnyPath | None = None
    _: dataclasses.KW_ONLY
    keep_steps: Collection[SupportsIndex] = ()
    keep_last: SupportsIndex = 2
    score: Callable[[Mapping[str, Any]], float] | None = None
    save_every_logs: SupportsIndex = 1

    def __post_init__(self):
        keep = [integer("a step of keep_steps", step) for step in self.keep_steps]
        _set(
            self,
            keep_steps=tuple(keep),
            keep_last=_count("keep_last", self.keep_last),
            save_every_logs=_count("save_every_logs", self.save_every_logs),
        )


def _count(name, value):
    """Returns a positive Python integer."""
    return integer(name, value, 1)


def _set(settings, **values):
    """Set fields of a frozen dataclass while it is made."""
    for name, value in values.items():
        object.__setattr__(settings, name, value)


# Keywords of `fit` and `population` in version 0.1, accepted for one release.
EARLIER = {
    field.name: ("logging", Logging, field.name)
    for field in dataclasses.fields(Logging)
} | {
    field.name: ("checkpoints", Checkpoints, field.name)
    for field in dataclasses.fields(Checkpoints)
}
EARLIER["checkpoint_every_logs"] = EARLIER.pop("save_every_logs")


def with_old_keywords(
    logging: Logging | None, checkpoints: Checkpoints | None, old: Mapping[str, Any]
) -> tuple[Logging, Checkpoints]:
    """Returns both settings, by default or from the keywords of version 0.1.

    Raises:
      TypeError: a keyword is unknown, or its settings are given as well.
    """
    given = {"logging": logging, "checkpoints": checkpoints}
    fields: dict[str, dict[str, Any]] = {"logging": {}, "checkpoints": {}}
    for name, value in old.items():
        if name not in EARLIER:
            raise TypeError(f"got an unexpected keyword argument {name!r}")
        group, settings, field = EARLIER[name]
        new = f"{group}=training.{settings.__name__}({field}=...)"
        if given[group] is not None:
            raise TypeError(f"got {name}= and {group}=; give {new} alone")
        warnings.warn(
            f"{name}= is deprecated; give {new}", DeprecationWarning, stacklevel=3
        )
        fields[group][field] = value
    return (
        logging or Logging(**fields["logging"]),
        checkpoints or Checkpoints(**fields["checkpoints"]),
    )
