"""Checkpoints: written atomically, verified when read.

With several processes, each saves and restores what its devices hold, in a folder that
all see; process 0 writes the manifest when all are done.
"""

import contextlib
import math
import os
from typing import Any, SupportsIndex

import orbax.checkpoint.experimental.v1 as ocp
from etils import epath

from kd_heuristics.checkpoints import leaf, manifest, trees
from kd_heuristics.checkpoints.choose import newest_good
from kd_heuristics.checkpoints.manifest import CheckpointError
from kd_heuristics.checkpoints.places import (
    as_step,
    folder_of,
    is_step,
    path_of,
    steps,
)
from kd_heuristics.runtime import files, hosts
from kd_heuristics.runtime.errors import first_line

PyTree = Any

_SAVING = ".saving"  # being written, with orbax's own folder beside it
_REMOVING = ".removing-"  # being deleted
_REPLACED = ".replaced-"  # intact old checkpoint of a step, until the new one is ready


def save(
    directory: files.AnyPath,
    step: SupportsIndex,
    tree: PyTree,
    *,
    score: float | None = None,
    notes: Any = None,
) -> None:
    """Writes `tree` to `directory/<step>` atomically, replacing an equal step.

    Args:
      directory: holds one folder per step; created if missing. May be a `gs://` path,
        where nothing is renamed: the manifest is written last, a folder without one is
        no checkpoint, and an equal step is deleted before the new one is written.
      step: an integer, not negative.
      tree: a pytree of arrays, typed keys and Python numbers. Orbax sees nested
        dictionaries of arrays, by the path of each leaf, without empty arrays.
      score: recorded with it, for `best`; NaN counts as none.
      notes: any JSON, for `notes`; numbers may be NumPy's.

    Raises:
      ValueError: two leaves have the same name, as in `{"a/b": x, "a": {"b": y}}` and
        `{"a.b": x, "a": {"b": y}}`; or the files cannot hold the bits of a leaf: text,
        objects, masked arrays, long double, integers of more than 64 bits.
      TypeError: the step is not an integer, or the notes are not JSON.
      CheckpointError: it could not be written. Existing checkpoints stay, except an
        equal step on a store.
    """
    step, path = as_step(step), path_of(directory, step)
    on_store = files.is_store(path)
    saving = path if on_store else path.parent / _SAVING
    score = None if score is None or math.isnan(score) else float(score)
    notes = manifest.checked_notes(notes)
    named = trees.named(tree)
    for name, value in named.items():
        leaf.check(name, value)
    arrays = trees.written(named)
    leaves = {name: leaf.describe(value) for name, value in named.items()}
    try:
        tidy(directory)
        if on_store:
            remove(directory, step)
        ocp.save(saving, arrays)
        about = (step, leaves, score, notes)
        hosts.first(_finish, saving, path, *about)
    except Exception as error:  # orbax and tensorstore raise many kinds
        with contextlib.suppress(OSError):
            tidy(directory)
        raise CheckpointError(
            f"the checkpoint of step {step} could not be written to {path.parent} "
            f"({first_line(error)}); the steps there stay: {steps(directory)}. "
            "Make room, or check the folder's permissions; the same run then resumes "
            "from the newest of them"
        ) from error


def restore(
    directory: files.AnyPath,
    like: PyTree | None = None,
    step: SupportsIndex | None = None,
) -> PyTree:
    """Reads a checkpoint, after comparing its files with their sums.

    Args:
      directory: as given to `save`.
      like: a pytree with the wanted structure, shapes and dtypes; its values do not
        matter. A JAX array is restored to the placement of the one in `like`: committed
        or not, weakly typed or not. A `jax.ShapeDtypeStruct` stands for an array at its
        sharding, or uncommitted. The devices may differ from those that saved. NumPy
        arrays and Python numbers come back as such. `None` returns nested dictionaries
        of uncommitted arrays and Python numbers, by the names of the leaves.
      step: step to read; `None` takes the newest intact one, with a `DamageWarning` for
        each newer one.

    Returns: the same bits. A type that JAX does not support (64 bits without
      `jax_enable_x64`) comes back as a NumPy array.

    Raises:
      CheckpointError: there is none, or its shapes are not those of `like`.
      DamagedError: the files of `step` are damaged or another program's.
    """
    found = steps(directory)
    step = None if step is None else as_step(step)
    if not found or (step is not None and step not in found):
        wanted = "checkpoint" if step is None else f"step {step}"
        raise CheckpointError(f"no {wanted} in {directory}; the steps there: {found}")
    if step is None:
        step = newest_good(directory, stacklevel=3)
        assert step is not None
    path = path_of(directory, step)
    there = hosts.first(manifest.verify, path, step)["leaves"]
    if like is None:
        like = trees.nested({name: leaf.of(words) for name, words in there.items()})
    named = trees.named(like)
    for name in sorted({*there, *named}):
        both = name in there and name in named
        if not both or not leaf.fits(named[name], there[name]):
            here = leaf.describe(named[name]) if name in named else None
            raise CheckpointError(
                f"checkpoint {path} is of another model or optimiser: {name} is "
                f"{there.get(name)} there, {here} here. Use another work folder"
            )
    return trees.back(like, there, ocp.load(path, trees.wanted(named, there)))


def remove(directory: files.AnyPath, step: SupportsIndex) -> None:
    """Deletes the checkpoint of a step, if there is one.

    It is renamed first, so that a kill leaves no partial checkpoint under its name; on
    a store the manifest is deleted first.
    """
    hosts.first(_remove, path_of(directory, step))


def _finish(saving, path, step, leaves, score, notes):
    """Adds the manifest to what orbax wrote, and moves it to its place."""
    manifest.write(saving, step, leaves, score, notes)
    if saving != path:
        if path.exists():
            path.rename(_replaced(path))
        saving.rename(path)
        _drop(_replaced(path))


def _replaced(path):
    """Returns the place of a step's old checkpoint while it is replaced."""
    return path.parent / f"{_REPLACED}{path.name}"


def _remove(path):
    """Deletes a step, and the old copy of it that a killed save left."""
    if files.is_store(path):
        (path / manifest.FILE).unlink(missing_ok=True)
        _delete(path)
    else:
        _drop(_replaced(path))  # else `tidy` would put it back
        _drop(path)


def _drop(path):
    """Renames a folder, then deletes it, so that a partial one has another name."""
    if path.exists():
        aside = path.parent / f"{_REMOVING}{path.name}"
        _delete(aside)
        path.rename(aside)
        _delete(aside)


def tidy(directory: files.AnyPath) -> None:
    """Deletes what a killed save or removal left; call it only while none runs.

    A step that was being replaced, and has no new checkpoint yet, is restored.
    """
    hosts.first(_clear, folder_of(directory))


def _clear(folder: epath.Path) -> None:
    """Deletes what killed saves left in a folder, and restores replaced steps."""
    if not folder.exists():
        return
    whole = [f"{step:08d}" for step in steps(folder)]
    for path in [*folder.iterdir()]:
        half = files.is_store(folder) and is_step(path) and path.name not in whole
        if half or path.name.startswith((_SAVING, _REMOVING)):
            _delete(path)
        elif path.name.startswith(_REPLACED):
            _put_back(path)


def _put_back(path: epath.Path) -> None:
    """Renames the old checkpoint of a step back, if the step has no new one."""
    place = path.parent / path.name.removeprefix(_REPLACED)
    if place.exists():
        _drop(path)
    else:
        path.rename(place)


def _delete(path: epath.Path) -> None:
    """Deletes a folder; if it is a link, only the link."""
    if os.path.islink(path):
        path.unlink()
    elif path.exists():
        path.rmtree()
