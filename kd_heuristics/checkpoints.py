"""Checkpoints of any pytree: written whole or not at all, checked when read.

Orbax reads an array whose bytes have changed without a word. Each checkpoint here
therefore carries a manifest of its files' SHA-256 sums, which `restore` compares
before orbax sees the files. A checkpoint is written beside its place and renamed at the
end, so a kill leaves the earlier ones as they were.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint.experimental.v1 as ocp
from etils import epath

PyTree = Any

_MANIFEST = "manifest.sha256.json"
_SAVING = ".saving"


class CheckpointError(Exception):
    """A checkpoint that cannot be used; the message names it and the remedy."""


def save(directory: str | Path, step: int, tree: PyTree) -> None:
    """Writes `tree` as `directory/<step>`, atomically; an equal step is replaced.

    Args:
      directory: holds one folder a step; made if missing. May be a `gs://` path.
      step: not negative.
      tree: a pytree of arrays.
    """
    path = _path(directory, step)
    saving = path.parent / _SAVING
    if saving.exists():
        saving.rmtree()  # of a save that was killed
    ocp.save(saving, tree)
    manifest = {"files": _sums(saving), "leaves": _leaves(tree)}
    (saving / _MANIFEST).write_text(json.dumps(manifest, indent=1))
    if path.exists():
        path.rmtree()
    saving.rename(path)


def steps(directory: str | Path) -> list[int]:
    """The steps that have a checkpoint in `directory`, ascending; [] where none has."""
    folder = epath.Path(directory)
    if not folder.exists():
        return []
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())


def restore(directory: str | Path, like: PyTree, step: int | None = None) -> PyTree:
    """Reads a checkpoint back, after comparing its files with their sums.

    Args:
      directory: as given to `save`.
      like: a pytree of arrays or `jax.ShapeDtypeStruct` of the structure, shapes,
        dtypes and shardings wanted; values do not matter.
      step: which one; None: the newest.

    Raises:
      CheckpointError: there is none, its files are damaged or another program's, or
        its shapes are not those of `like`.
    """
    found = steps(directory)
    if not found or (step is not None and step not in found):
        wanted = "checkpoint" if step is None else f"step {step}"
        raise CheckpointError(f"no {wanted} in {directory}; the steps there: {found}")
    path = _path(directory, found[-1] if step is None else step)
    there, here = _verify(path), _leaves(like)
    if there != here:
        name = sorted(n for n in {*there, *here} if there.get(n) != here.get(n))[0]
        raise CheckpointError(
            f"checkpoint {path} is of another model or optimiser: {name} is "
            f"{there.get(name)} there, {here.get(name)} here. Use another work folder"
        )
    return ocp.load(path, jax.tree.map(_abstract, like))


def remove(directory: str | Path, step: int) -> None:
    """Deletes the checkpoint of one step; nothing where there is none."""
    path = _path(directory, step)
    if path.exists():
        path.rmtree()


def _verify(path: epath.Path) -> dict[str, str]:
    """The leaves that were saved; raises where a file is not as it was then."""
    try:
        manifest = json.loads((path / _MANIFEST).read_text())
        saved, leaves, found = manifest["files"], manifest["leaves"], _sums(path)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"checkpoint {path} has no readable {_MANIFEST}: it is damaged or another "
            "program's. Remove that folder to go on from an earlier checkpoint, or use "
            "another work folder"
        ) from error
    if saved != found:
        wrong = sorted(n for n in {*saved, *found} if saved.get(n) != found.get(n))
        raise CheckpointError(
            f"checkpoint {path} is damaged: {wrong[0]} is not as it was saved. Remove "
            "that folder to go on from an earlier checkpoint"
        )
    return leaves


def _leaves(tree: PyTree) -> dict[str, str]:
    """`{"params/fc/kernel": "float32[2, 3]", ...}`."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): (
            f"{leaf.dtype}{list(np.shape(leaf))}"
        )
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _sums(path: epath.Path) -> dict[str, str]:
    """SHA-256 of each file below `path`, by relative name, the manifest left out."""
    return {
        str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(_files(path))
        if file.name != _MANIFEST
    }


def _files(path: epath.Path) -> Iterator[epath.Path]:
    for entry in path.iterdir():
        if entry.is_dir():
            yield from _files(entry)
        else:
            yield entry


def _path(directory, step) -> epath.Path:
    if step < 0:
        raise ValueError(f"step must not be negative, got {step}")
    # orbax takes absolute paths only
    return epath.Path(directory).absolute() / f"{step:08d}"


def _abstract(leaf):
    sharding = getattr(leaf, "sharding", None) or _first_device()
    return jax.ShapeDtypeStruct(np.shape(leaf), leaf.dtype, sharding=sharding)


def _first_device():
    return jax.sharding.SingleDeviceSharding(jax.devices()[0])
