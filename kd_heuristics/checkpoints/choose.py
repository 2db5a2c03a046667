"""Which checkpoint to use: the best, or the newest that is whole."""

import warnings
from collections.abc import Collection
from typing import Any, SupportsIndex

from kd_heuristics import hosts
from kd_heuristics.checkpoints import manifest
from kd_heuristics.checkpoints.manifest import CheckpointError, DamagedError
from kd_heuristics.checkpoints.places import as_step, path_of, steps
from kd_heuristics.files import AnyPath


class DamageWarning(UserWarning):
    """A checkpoint is damaged and an earlier one is used in its place."""


def best(directory: AnyPath) -> int | None:
    """The step of the highest score, the newest of equal ones; None without scores.

    A checkpoint whose manifest is damaged has no score; a `DamageWarning` says so.
    """
    scores, damaged = hosts.first(_scores, directory)
    for error in damaged:
        warnings.warn(f"{error}. It counts for nothing", DamageWarning, 2)
    scored = [(score, step) for step, score in scores.items() if score is not None]
    return max(scored)[1] if scored else None


def _scores(directory):
    """The score of each step, and the errors of the others."""
    scores, damaged = {}, []
    for step in steps(directory):
        try:
            scores[step] = manifest.read(path_of(directory, step), step)["score"]
        except DamagedError as error:
            damaged.append(error)
    return scores, damaged


def notes(directory: AnyPath, step: SupportsIndex) -> Any:
    """What `save` was given as notes.

    Raises:
      DamagedError: the manifest is missing or not as it was written.
    """
    step = as_step(step)
    return hosts.first(manifest.read, path_of(directory, step), step)["notes"]


def newest_good(
    directory: AnyPath, needed: Collection[SupportsIndex] = (), *, stacklevel: int = 2
) -> int | None:
    """The newest undamaged step that no lost step comes before; None without any.

    Each damaged checkpoint is named in a `DamageWarning`.

    Args:
      directory: as given to `save`.
      needed: steps that must be whole too, as far as they are not after the result: a
        training that goes on from it makes the later ones again.
      stacklevel: of the warnings.

    Raises:
      CheckpointError: there are checkpoints, but none that can be used.
    """
    damaged = hosts.first(_damages, directory)
    found = [*damaged]
    for error in filter(None, damaged.values()):
        words = f"{error}. An earlier checkpoint is used, and it is made again"
        warnings.warn(words, DamageWarning, stacklevel + 1)
    good = [step for step in found if damaged[step] is None]
    lost = [step for step in map(as_step, needed) if step not in good]
    usable = [step for step in good if all(step < other for other in lost)]
    if found and not usable:
        first = next(filter(None, damaged.values()), None)
        first = first or f"step {min(lost)} is missing"
        raise CheckpointError(
            f"no checkpoint in {directory} can be gone on from: {first}. Remove that "
            "folder to start from the beginning"
        )
    return max(usable, default=None)


def is_good(directory: AnyPath, step: SupportsIndex) -> bool:
    """Whether a step has a checkpoint, and that is undamaged."""
    return hosts.first(_is_good, directory, as_step(step))


def _is_good(directory, step) -> bool:
    return step in steps(directory) and _damage(directory, step) is None


def _damages(directory) -> dict[int, DamagedError | None]:
    """What is wrong with each step."""
    return {step: _damage(directory, step) for step in steps(directory)}


def _damage(directory, step) -> DamagedError | None:
    try:
        manifest.verify(path_of(directory, step), step)
    except DamagedError as error:
        return error
    return None
