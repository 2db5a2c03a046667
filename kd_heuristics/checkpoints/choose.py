"""Choice of a checkpoint: the best, or the newest intact one."""

import warnings
from collections.abc import Collection
from typing import Any, SupportsIndex

from kd_heuristics.checkpoints import manifest
from kd_heuristics.checkpoints.manifest import CheckpointError, DamagedError
from kd_heuristics.checkpoints.places import as_step, path_of, steps
from kd_heuristics.runtime import hosts
from kd_heuristics.runtime.files import AnyPath


class DamageWarning(UserWarning):
    """Warning that a damaged checkpoint is passed over for an earlier one."""


def best(directory: AnyPath) -> int | None:
    """Returns the step of the highest score, or None if no checkpoint has a score.

    Of equal scores the newest wins. A checkpoint with a damaged manifest has no score;
    a `DamageWarning` names it.
    """
    scores, damaged = hosts.first(_scores, directory)
    for error in damaged:
        warnings.warn(f"{error}. Its score is ignored", DamageWarning, 2)
    scored = [(score, step) for step, score in scores.items() if score is not None]
    return max(scored)[1] if scored else None


def _scores(directory):
    """Returns the score of each readable step, and the errors of the others."""
    scores, damaged = {}, []
    for step in steps(directory):
        try:
            scores[step] = manifest.read(path_of(directory, step), step)["score"]
        except DamagedError as error:
            damaged.append(error)
    return scores, damaged


def notes(directory: AnyPath, step: SupportsIndex) -> Any:
    """Returns the notes given to `save`.

    Raises:
      DamagedError: the manifest is missing or has changed.
    """
    step = as_step(step)
    return hosts.first(manifest.read, path_of(directory, step), step)["notes"]


def newest_good(
    directory: AnyPath, needed: Collection[SupportsIndex] = (), *, stacklevel: int = 2
) -> int | None:
    """Returns the newest intact step with no earlier required step missing, or None.

    A `DamageWarning` names each damaged checkpoint.

    Args:
      directory: as given to `save`.
      needed: required steps, which must be intact if they come before the result; a
        training that resumes from it writes the later ones again.
      stacklevel: stack level of the warnings.

    Raises:
      CheckpointError: there are checkpoints, but none is usable.
    """
    damaged = hosts.first(_damages, directory)
    found = [*damaged]
    for error in filter(None, damaged.values()):
        words = f"{error}. An earlier checkpoint is used, and this one is written again"
        warnings.warn(words, DamageWarning, stacklevel + 1)
    good = [step for step in found if damaged[step] is None]
    lost = [step for step in map(as_step, needed) if step not in good]
    usable = [step for step in good if all(step < other for other in lost)]
    if found and not usable:
        first = next(filter(None, damaged.values()), None)
        first = first or f"step {min(lost)} is missing"
        raise CheckpointError(
            f"no usable checkpoint in {directory}: {first}. Remove that folder to "
            "start from the beginning"
        )
    return max(usable, default=None)


def is_good(directory: AnyPath, step: SupportsIndex) -> bool:
    """Whether a step has an intact checkpoint."""
    return hosts.first(_is_good, directory, as_step(step))


def _is_good(directory, step) -> bool:
    return step in steps(directory) and _damage(directory, step) is None


def _damages(directory) -> dict[int, DamagedError | None]:
    """Returns the damage of each step, or None for an intact one."""
    return {step: _damage(directory, step) for step in steps(directory)}


def _damage(directory, step) -> DamagedError | None:
    """Returns the damage of a step, or None if it is intact."""
    try:
        manifest.verify(path_of(directory, step), step)
    except DamagedError as error:
        return error
    return None
