"""Checkpoints of any pytree: written whole or not at all, checked when read.

Orbax reads an array whose bytes have changed without a word. Each checkpoint here
therefore carries a manifest of its files' SHA-256 sums, which `restore` compares
before orbax sees the files. A checkpoint is written beside its place and renamed at the
end, so a kill leaves the earlier ones as they were.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint.experimental.v1 as ocp
from etils import epath
from flax import traverse_util

PyTree = Any

_MANIFEST = "manifest.sha256.json"
_SAVING = ".saving"
_KEY_IMPLS = ("threefry2x32", "rbg", "unsafe_rbg")


class CheckpointError(Exception):
    """A checkpoint that cannot be used; the message names it and the remedy."""


def save(
    directory: str | Path, step: int, tree: PyTree, *, score: float | None = None
) -> None:
    """Writes `tree` as `directory/<step>`, atomically; an equal step is replaced.

    Args:
      directory: holds one folder a step; made if missing. May be a `gs://` path.
      step: not negative.
      tree: a pytree of arrays, typed keys and numbers. Orbax sees nested dictionaries
        of arrays, by the path of each leaf.
      score: recorded with it, for `best`; NaN counts as none.
    """
    path = _path(directory, step)
    saving = path.parent / _SAVING
    if saving.exists():
        saving.rmtree()  # of a save that was killed
    ocp.save(saving, _nested(tree))
    score = None if score is None or math.isnan(score) else float(score)
    manifest = {"files": _sums(saving), "leaves": _leaves(tree), "score": score}
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


def best(directory: str | Path) -> int | None:
    """The step of the highest score, the newest of equal ones; None without scores.

    Raises:
      CheckpointError: the manifest of a checkpoint cannot be read.
    """
    scores = {
        step: _manifest(_path(directory, step))["score"] for step in steps(directory)
    }
    scored = [(score, step) for step, score in scores.items() if score is not None]
    return max(scored)[1] if scored else None


def restore(
    directory: str | Path, like: PyTree | None = None, step: int | None = None
) -> PyTree:
    """Reads a checkpoint back, after comparing its files with their sums.

    Args:
      directory: as given to `save`.
      like: a pytree of arrays or `jax.ShapeDtypeStruct` of the structure, shapes,
        dtypes and shardings wanted; values do not matter. The shardings may be over
        other devices than those that saved. None: nested dictionaries by the names
        that the leaves had, on the first device.
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
    there = _verify(path)
    if like is None:
        like = traverse_util.unflatten_dict(
            {tuple(name.split("/")): _described(leaf) for name, leaf in there.items()}
        )
    here = _leaves(like)
    if there != here:
        name = sorted(n for n in {*there, *here} if there.get(n) != here.get(n))[0]
        raise CheckpointError(
            f"checkpoint {path} is of another model or optimiser: {name} is "
            f"{there.get(name)} there, {here.get(name)} here. Use another work folder"
        )
    return _like(like, ocp.load(path, _nested(like, _abstract)))


def remove(directory: str | Path, step: int) -> None:
    """Deletes the checkpoint of one step; nothing where there is none."""
    path = _path(directory, step)
    if path.exists():
        path.rmtree()


def _manifest(path: epath.Path) -> dict[str, Any]:
    try:
        manifest = json.loads((path / _MANIFEST).read_text())
        return {key: manifest[key] for key in ("files", "leaves", "score")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"checkpoint {path} has no readable {_MANIFEST}: it is damaged or another "
            "program's. Remove that folder to go on from an earlier checkpoint, or use "
            "another work folder"
        ) from error


def _verify(path: epath.Path) -> dict[str, str]:
    """The leaves that were saved; raises where a file is not as it was then."""
    manifest = _manifest(path)
    saved, found = manifest["files"], _sums(path)
    if saved != found:
        wrong = sorted(n for n in {*saved, *found} if saved.get(n) != found.get(n))
        raise CheckpointError(
            f"checkpoint {path} is damaged: {wrong[0]} is not as it was saved. Remove "
            "that folder to go on from an earlier checkpoint"
        )
    return manifest["leaves"]


def _named(tree: PyTree) -> dict[str, Any]:
    """`{"params/fc/kernel": leaf, ...}`."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/") or "value": leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _nested(tree: PyTree, convert: Callable | None = None) -> PyTree:
    """The leaves as arrays in nested dictionaries, which orbax takes as they are."""
    convert = convert or _data
    return traverse_util.unflatten_dict(
        {tuple(name.split("/")): convert(leaf) for name, leaf in _named(tree).items()}
    )


def _like(like: PyTree, nested: PyTree) -> PyTree:
    """The arrays in the structure of `like`; key data becomes typed keys again."""
    read: dict[str, Any] = traverse_util.flatten_dict(nested, sep="/")
    leaves = [
        jax.random.wrap_key_data(read[name], impl=_key_impl(leaf))
        if _is_key(leaf)
        else read[name]
        for name, leaf in _named(like).items()
    ]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def _leaves(tree: PyTree) -> dict[str, str]:
    """`{"params/fc/kernel": "float32[2, 3]", "key": "key<fry>[]", ...}`."""
    return {
        name: f"{_dtype(leaf)}{list(np.shape(leaf))}"
        for name, leaf in _named(tree).items()
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


def _is_key(leaf):
    return jnp.issubdtype(_dtype(leaf), jax.dtypes.prng_key)


def _dtype(leaf):
    return getattr(leaf, "dtype", None) or jnp.asarray(leaf).dtype


def _key_impl(leaf):
    """The name of a key's generator, of an array or of a shape alike."""
    found = []
    jax.eval_shape(lambda key: found.append(str(jax.random.key_impl(key))), leaf)
    return found[0]


def _described(description: str) -> jax.ShapeDtypeStruct:
    """The inverse of a description in `_leaves`."""
    dtype, shape = description.removesuffix("]").split("[")
    keys = {str(jax.random.key(0, impl=name).dtype): name for name in _KEY_IMPLS}
    if dtype in keys:
        dtype = jax.random.key(0, impl=keys[dtype]).dtype
    sizes = tuple(int(size) for size in shape.split(",") if size.strip())
    return jax.ShapeDtypeStruct(sizes, dtype, sharding=_first_device())


def _data(leaf):
    return jax.random.key_data(leaf) if _is_key(leaf) else jnp.asarray(leaf)


def _abstract(leaf):
    sharding = getattr(leaf, "sharding", None) or _first_device()
    if _is_key(leaf):
        leaf = jax.eval_shape(jax.random.key_data, leaf)
        sharding = _first_device()
    return jax.ShapeDtypeStruct(np.shape(leaf), _dtype(leaf), sharding=sharding)


def _first_device():
    return jax.sharding.SingleDeviceSharding(jax.devices()[0])
