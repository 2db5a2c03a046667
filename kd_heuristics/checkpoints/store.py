"""Checkpoints: written whole or not at all, checked when read.

With several processes all of them save and restore, each what its devices hold; the
folder is one that all see, and process 0 writes the manifest when all are done.
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

_SAVING = ".saving"  # what is being written, and orbax' own folder beside it
_REMOVING = ".removing-"  # what is being deleted
_REPLACED = ".replaced-"  # whole: a step until its new checkpoint has its place


def save(
    directory: files.AnyPath,
    step: SupportsIndex,
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
      step: an integer, not negative.
      tree: a pytree of arrays, typed keys and Python numbers. Orbax sees nested
        dictionaries of arrays, by the path of each leaf, and none without elements.
      score: recorded with it, for `best`; NaN counts as none.
      notes: any JSON, for `notes`; numbers may be NumPy's.

    Raises:
      ValueError: two leaves have one name, as those of `{"a/b": x, "a": {"b": y}}` and
        `{"a.b": x, "a": {"b": y}}`; or the files cannot hold the bits of a leaf: text,
        objects, masked arrays, long double, integers of more than 64 bits.
      TypeError: a step that is no integer, or notes that are no JSON.
      CheckpointError: it could not be written; those that were there stay, but on a
        store an equal step.
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
            "Make room, or see to the folder's permissions; the same run goes on from "
            "the newest of them"
        ) from error


def restore(
    directory: files.AnyPath,
    like: PyTree | None = None,
    step: SupportsIndex | None = None,
) -> PyTree:
    """Reads a checkpoint back, after comparing its files with their sums.

    Args:
      directory: as given to `save`.
      like: a pytree of the structure, shapes and dtypes wanted; values do not matter.
        A JAX array comes back where the one in `like` is, uncommitted where that is
        uncommitted, weakly typed where that is; a `jax.ShapeDtypeStruct` stands for an
        array at its sharding, or uncommitted. The shardings may be over other devices
        than those that saved. NumPy arrays and Python numbers come back as such. None:
        nested dictionaries by the names that the leaves had, of uncommitted arrays and
        Python numbers.
      step: which one; None: the newest that is whole, and a `DamageWarning` for each
        newer one.

    Returns: the same bits. A type that JAX does not hold (64 bits without
      `jax_enable_x64`) comes back as NumPy's.

    Raises:
      CheckpointError: there is none, or it is not of the shapes of `like`.
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
    """Deletes a step, and the copy that a killed save left of it."""
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
