"""Checkpoints: written whole or not at all, checked when read.

With several processes all of them save and restore, each what its devices hold; the
folder is one that all see, and process 0 writes the manifest when all are done.
"""

import contextlib
import math
import os
from typing import Any

import orbax.checkpoint.experimental.v1 as ocp
from etils import epath
from flax import traverse_util

from kd_heuristics import files, hosts
from kd_heuristics.checkpoints import manifest, trees
from kd_heuristics.checkpoints.choose import newest_good
from kd_heuristics.checkpoints.manifest import CheckpointError
from kd_heuristics.checkpoints.places import path_of, steps

PyTree = Any

_SAVING = ".saving"  # what is being written, and orbax' own folder beside it
_REMOVING = ".removing-"  # what is being deleted
_REPLACED = ".replaced-"  # whole: a step until its new checkpoint has its place


def save(
    directory: files.AnyPath,
    step: int,
    tree: PyTree,
    *,
    score: float | None = None,
    notes: Any = None,
) -> None:
    """Writes `tree` as `directory/<step>`, whole or not at all; an equal step goes.

    Args:
      directory: holds one folder a step; made if missing. May be a `gs://` path, where
        nothing is renamed: the manifest is written last, a folder without one is no
        checkpoint, and an equal step goes before the new one is written.
      step: not negative.
      tree: a pytree of arrays, typed keys and numbers. Orbax sees nested dictionaries
        of arrays, by the path of each leaf, and none without elements.
      score: recorded with it, for `best`; NaN counts as none.
      notes: any JSON, for `notes`.

    Raises:
      ValueError: two leaves have one name, as those of `{"a/b": x, "a": {"b": y}}`.
      CheckpointError: it could not be written; those that were there stay, but on a
        store an equal step.
    """
    path = path_of(directory, step)
    on_store = files.is_store(path)
    saving = path if on_store else path.parent / _SAVING
    score = None if score is None or math.isnan(score) else float(score)
    arrays, leaves = trees.nested(tree), trees.leaves(tree)
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
            f"({_first_line(error)}); the steps there stay: {steps(directory)}. "
            "Make room, or see to the folder's permissions; the same run goes on from "
            "the newest of them"
        ) from error


def restore(
    directory: files.AnyPath, like: PyTree | None = None, step: int | None = None
) -> PyTree:
    """Reads a checkpoint back, after comparing its files with their sums.

    Args:
      directory: as given to `save`.
      like: a pytree of arrays or `jax.ShapeDtypeStruct` of the structure, shapes,
        dtypes and shardings wanted; values do not matter. The shardings may be over
        other devices than those that saved. None: nested dictionaries by the names
        that the leaves had, on the first device.
      step: which one; None: the newest that is whole, and a `DamageWarning` for each
        newer one.

    Raises:
      CheckpointError: there is none, or it is not of the shapes of `like`.
      DamagedError: the files of `step` are damaged or another program's.
    """
    found = steps(directory)
    if not found or (step is not None and step not in found):
        wanted = "checkpoint" if step is None else f"step {step}"
        raise CheckpointError(f"no {wanted} in {directory}; the steps there: {found}")
    if step is None:
        step = newest_good(directory, stacklevel=3)
        assert step is not None
    path = path_of(directory, step)
    there = hosts.first(manifest.verify, path, step)["leaves"]
    if like is None:
        like = traverse_util.unflatten_dict(
            {
                tuple(name.split("/")): trees.described(leaf)
                for name, leaf in there.items()
            }
        )
    here = trees.leaves(like)
    if there != here:
        name = sorted(n for n in {*there, *here} if there.get(n) != here.get(n))[0]
        raise CheckpointError(
            f"checkpoint {path} is of another model or optimiser: {name} is "
            f"{there.get(name)} there, {here.get(name)} here. Use another work folder"
        )
    return trees.like_of(like, ocp.load(path, trees.nested(like, trees.abstract)))


def remove(directory: files.AnyPath, step: int) -> None:
    """Deletes the checkpoint of one step; nothing where there is none.

    It is renamed first, so that a kill leaves no half of it under its name; on a store
    its manifest goes first.
    """
    hosts.first(_remove, path_of(directory, step))


def _finish(saving, path, step, leaves, score, notes):
    """Makes a checkpoint of what orbax wrote."""
    manifest.write(saving, step, leaves, score, notes)
    if saving != path:
        if path.exists():
            path.rename(_replaced(path))
        saving.rename(path)
        _drop(_replaced(path))


def _replaced(path):
    return path.parent / f"{_REPLACED}{path.name}"


def _remove(path):
    if files.is_store(path):
        (path / manifest.FILE).unlink(missing_ok=True)
        _delete(path)
    else:
        _drop(_replaced(path))  # else `tidy` would put it back
        _drop(path)


def _drop(path):
    """Deletes a folder under another name, so that no half of it is taken for it."""
    if path.exists():
        aside = path.parent / f"{_REMOVING}{path.name}"
        _delete(aside)
        path.rename(aside)
        _delete(aside)


def tidy(directory: files.AnyPath) -> None:
    """Deletes what a save or a removal left that was killed; not while one runs.

    A step that was to be replaced, and has no new checkpoint yet, is put back.
    """
    hosts.first(_clear, epath.Path(directory))


def _clear(folder: epath.Path) -> None:
    if not folder.exists():
        return
    whole = [f"{step:08d}" for step in steps(folder)]
    for path in [*folder.iterdir()]:
        is_step = files.is_store(folder) and path.name[:1].isdigit()
        half = is_step and path.name not in whole
        if half or path.name.startswith((_SAVING, _REMOVING)):
            _delete(path)
        elif path.name.startswith(_REPLACED):
            _put_back(path)


def _put_back(path: epath.Path) -> None:
    """Gives a step that was to be replaced its name again, if nothing has it."""
    place = path.parent / path.name.removeprefix(_REPLACED)
    if place.exists():
        _drop(path)
    else:
        path.rename(place)


def _delete(path: epath.Path) -> None:
    """Deletes a folder; of a link the link, never what it leads to."""
    if os.path.islink(path):
        path.unlink()
    elif path.exists():
        path.rmtree()


def _first_line(error: Exception) -> str:
    words = str(error).strip().splitlines()
    return f"{type(error).__name__}: {words[0] if words else 'no more is known'}"
