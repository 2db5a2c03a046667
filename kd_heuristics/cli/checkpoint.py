"""Checkpoints by their command-line names: PATH, PATH@STEP, PATH#NETWORK."""

import collections
import dataclasses
import functools
import json
import re
import warnings
from pathlib import Path
from typing import Any

import jax
import numpy as np

from kd_heuristics import checkpoints
from kd_heuristics.pytrees import leaf_names
from kd_heuristics.runtime import files
from kd_heuristics.runtime.errors import InputError
from kd_heuristics.runtime.leaves import is_key

PyTree = Any

_MANIFEST = "manifest.sha256.json"


@dataclasses.dataclass(frozen=True)
class Place:
    """Location of a network.

    Attributes:
      path: a folder or an ".npz" file.
      step: step in a folder of steps; `None` selects the newest.
      index: index of the network in a checkpoint that holds several; `None` if it holds
        one.
      text: text that the user gave.

    >>> parse("runs/sgdr/checkpoints/train@240#2").step
    240
    """

    path: Path
    step: int | None
    index: int | None
    text: str


def parse(text: str) -> Place:
    """Parse `PATH[@STEP][#NETWORK]`."""
    rest, _, index = (
        text.rpartition("#") if re.search(r"#\d+$", text) else (text, "", "")
    )
    path, _, step = (
        rest.rpartition("@") if re.search(r"@\d+$", rest) else (rest, "", "")
    )
    return Place(
        files.local(path),
        int(step) if step else None,
        int(index) if index else None,
        text,
    )


def read(place: Place) -> dict[str, np.ndarray]:
    """Returns all arrays of a checkpoint, by name: `{"params/fc/kernel": array, ...}`.

    Our own checkpoints are verified against their checksums first.

    Raises:
      CheckpointError: the checkpoint is damaged.
      InputError: there is no checkpoint, or no such step.
    """
    if not place.path.exists():
        raise InputError(f"no checkpoint at {place.path}: there is no such file")
    if place.path.suffix == ".npz":
        if place.step is not None:
            raise InputError(f"{place.text}: an .npz has no steps; leave out the @")
        return _read_npz(place.path)
    folder = _step_folder(place)
    if (folder / _MANIFEST).exists():
        tree = checkpoints.restore(folder.parent, step=int(folder.name))
    else:
        tree = _read_orbax(folder)
    return {
        name: np.asarray(leaf)
        for name, leaf in leaf_names.flat(tree).items()
        if not is_key(leaf)
    }


def network(place: Place, like: PyTree) -> PyTree:
    """Returns the variables of a network in the structure of `like`.

    Args:
      place: location of the checkpoint. Its arrays lie below "params" and
        "batch_stats", or not, as those of `nnx.state(model)`. A name may end with the
        "value" of Flax's boxes.
      like: `{"params": tree, "batch_stats": tree}` with the model's shapes.

    Raises:
      InputError: an array is missing or has another shape; the message names the first
        such array and both shapes.
    """
    found = read(place)
    wanted = leaf_names.flat(like)
    chosen = _chosen(found, wanted)
    if place.index is not None:
        chosen = {name: _member(place, array) for name, array in chosen.items()}
    for name, leaf in wanted.items():
        if name not in chosen and name.startswith("batch_stats/"):
            # A bend has no statistics of its own; they are re-estimated anyway.
            chosen[name] = np.zeros(leaf.shape, leaf.dtype)
        _check(place, name, leaf, chosen.get(name), found)
    leaves = [
        jax.numpy.asarray(chosen[name], leaf.dtype) for name, leaf in wanted.items()
    ]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def _chosen(found, wanted) -> dict[str, np.ndarray]:
    """Returns those of the wanted arrays that a checkpoint holds, by wanted name."""
    unboxed = leaf_names.without_stored_boxes(found)
    tables = [found, dict(zip(unboxed, found.values(), strict=True))]
    if not any(name.startswith("params/") for name in found):
        tables = [
            {f"{part}/{name}": array for name, array in table.items()}
            for table in tables
            for part in ("params", "batch_stats")
        ]
    known = collections.ChainMap(*tables)  # the first table with a name wins
    return {name: known[name] for name in wanted if name in known}


def save(path: Path, tree: PyTree) -> None:
    """Write a pytree of nested dictionaries as an ".npz" file for `read`.

    Such files do not support bfloat16: it is stored as float32, and `network` casts it
    back.
    """
    found = leaf_names.flat(tree).items()
    files.write_arrays(path, {name: np.asarray(leaf) for name, leaf in found})


def settings(path: Path) -> dict[str, Any]:
    """Returns the "config" of the run folder around a checkpoint; {} if none."""
    for folder in path.absolute().parents:
        file = folder / "config.json"
        if file.exists() and "checkpoints" in path.absolute().relative_to(folder).parts:
            try:
                return dict(json.loads(file.read_text(encoding="utf-8"))["config"])
            except (ValueError, KeyError, TypeError):
                return {}
    return {}


def _step_folder(place: Place) -> Path:
    """Returns the folder of the chosen step; raise InputError if there is none."""
    folder = place.path
    if folder.is_file():
        raise InputError(
            f"{place.text} is a file, but not an .npz; give a folder or an .npz"
        )
    steps = {int(p.name): p for p in folder.iterdir() if checkpoints.is_step(p)}
    if steps and not (folder / _MANIFEST).exists():
        step = max(steps) if place.step is None else place.step
        if step not in steps:
            raise InputError(f"{folder} has no step {step}; it has {sorted(steps)}")
        return steps[step]
    if place.step is not None:
        raise InputError(f"{folder} has no steps; leave out @{place.step}")
    if (folder / "config.json").exists():
        inner = sorted(
            str(p.relative_to(folder))
            for p in folder.glob("checkpoints/*")
            if p.is_dir()
        )
        listed = ", ".join(inner) or "none"
        raise InputError(
            f"{folder} is a run folder; name one of its checkpoints: {listed}"
        )
    return folder


def _read_orbax(folder: Path) -> PyTree:
    """Returns the tree of any orbax checkpoint."""
    import orbax.checkpoint.experimental.v1 as ocp

    calls = [functools.partial(ocp.load, str(folder.absolute()))]
    if (folder / "_METADATA").exists():  # an item of a manager's step, "…/5/state"
        whole = str(folder.absolute().parent)
        calls.append(
            functools.partial(ocp.load, whole, checkpointable_name=folder.name)
        )
    reason = ""
    for call in calls:
        try:
            with warnings.catch_warnings():
                # These warnings concern shardings, which do not matter here.
                warnings.simplefilter("ignore")
                return call()
        except Exception as error:  # orbax raises many kinds
            reason = str(error).splitlines()[0]
    raise InputError(f"{folder} cannot be read as an orbax checkpoint: {reason}")


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        return files.read_arrays(path)
    except Exception as error:  # zipfile, zlib and numpy each raise their own
        raise InputError(
            f"{path} is not a readable .npz of named arrays ({error}); write one with "
            "numpy.savez(path, **flax.traverse_util.flatten_dict(params, sep='/'))"
        ) from error


def _member(place, array):
    """Returns the chosen network's entry of a stacked array."""
    if array.ndim == 0 or place.index >= len(array):
        held = len(array) if array.ndim else 1
        raise InputError(
            f"{place.text}: there is no network #{place.index}; it holds {held}"
        )
    return array[place.index]


def _check(place, name, leaf, array, found):
    """Raise InputError if an array is missing or does not fit the model."""
    if array is None:
        below = [name for name in found if name.startswith("params/")]
        have = ", ".join(sorted(below or found)[:3])
        raise InputError(
            f"{place.text} has no {name}, which the model has; it has {have}, ... Is "
            "--model the one it was saved from?"
        )
    if array.shape == leaf.shape:
        return
    if place.index is None and array.shape[1:] == leaf.shape:
        if len(array) == 1:
            raise InputError(
                f"{place.text} holds a list of one network; name it: {place.text}#0"
            )
        raise InputError(
            f"{place.text} holds {len(array)} networks; name one: {place.text}#0 to "
            f"#{len(array) - 1}"
        )
    raise InputError(
        f"{place.text}: {name} is {list(array.shape)}, the model's {list(leaf.shape)}; "
        "are --model and --model-options those it was saved from?"
    )
