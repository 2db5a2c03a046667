"""Checkpoints by their command-line names: PATH, PATH@STEP, PATH#NETWORK."""

import collections
import dataclasses
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from kd_heuristics import checkpoints
from kd_heuristics.cli import stored
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
      path: a folder, or an ".npz", ".safetensors" or msgpack file.
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
    if place.path.is_file():
        if place.step is not None:
            raise InputError(f"{place.text}: a file has no steps; leave out the @")
        tree = stored.read_file(place.path)
    else:
        folder = _step_folder(place)
        if (folder / _MANIFEST).exists():
            tree = checkpoints.restore(folder.parent, step=int(folder.name))
        else:
            tree = stored.read_orbax(folder)
    return {
        name: np.asarray(leaf)
        for name, leaf in leaf_names.flat(tree).items()
        if not (is_key(leaf) or isinstance(leaf, str | bytes))
    }


def network(place: Place, like: PyTree, *, weights: bool = False) -> PyTree:
    """Returns the variables of a network in the structure of `like`.

    Args:
      place: location of the checkpoint. The parameters lie below "params", at the top,
        as those of `nnx.state(model)`, or below another name, as in {"model": state}.
        Names are joined by "/" or ".", and may end with the "value" of Flax's boxes.
      like: `{"params": tree, "batch_stats": tree}` with the model's shapes.
      weights: whether a kernel may be called "weight", as in Equinox.

    Raises:
      InputError: an array is missing, or has another shape or kind of number; the
        message names the first such array. Or several networks fit.
    """
    found = read(place)
    wanted = leaf_names.flat(like)
    chosen = _chosen(place, found, wanted, weights)
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


def _chosen(place, found, wanted, weights) -> dict[str, np.ndarray]:
    """Returns those of the wanted arrays that a checkpoint holds, by wanted name."""
    # The first table with a name wins.
    known = collections.ChainMap(*_spellings(found, weights))
    top = _top(place, known, [n for n in wanted if n.partition("/")[0] == "params"])
    chosen = {}
    for part in ("params", "batch_stats"):
        names = [n for n in wanted if n.partition("/")[0] == part]
        # A training state may hold whole variables as its "params".
        for start in (top, f"{top}params/"):
            there = {n: known[start + n] for n in names if start + n in known}
            chosen = there | chosen
        bare = {n: top + n.partition("/")[2] for n in names}
        if not any(n in chosen for n in names):
            chosen |= {n: known[own] for n, own in bare.items() if own in known}
    return chosen


def _spellings(found, weights) -> Iterator[dict[str, np.ndarray]]:
    """Yields the arrays by name: as stored, without boxes, with "/" in place of "."."""
    slashed = {name.replace(".", "/"): array for name, array in found.items()}
    tables = [found]
    if len(slashed) == len(found):
        tables.append(slashed)
    if weights:
        tables.append(
            {re.sub(r"\bweight$", "kernel", k): v for k, v in slashed.items()}
        )
    for table in tables:
        yield table
        names = leaf_names.without_stored_boxes(table)
        yield dict(zip(names, table.values(), strict=True))


# Parts of optax's states: their arrays have the names and shapes of the parameters.
_MOMENTS = {"opt_state", "mu", "nu", "trace"}


def _top(place, known: Mapping[str, np.ndarray], names: list[str]) -> str:
    """Returns the prefix of a network's arrays: "", or "model/" of {"model": state}.

    Raises: InputError if all parameters are there below several names.
    """
    bare = [name.partition("/")[2] for name in names]
    if any(name in known for name in (*names, *bare)):
        return ""
    last = max(bare, key=len, default="")
    tops = sorted(
        {key.removesuffix(last) for key in known if last and key.endswith(f"/{last}")}
    )
    tops = [
        top
        for top in tops
        if not _MOMENTS & {*top.split("/")}
        and all(top + name in known for name in bare)
    ]
    if len(tops) > 1:
        listed = " and ".join(top.rstrip("/") for top in tops)
        raise InputError(
            f"{place.text} holds several networks of this form, {listed}; save one of "
            "them alone"
        )
    return re.sub(r"(?:^|(?<=/))params/$", "", tops[0]) if tops else ""


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
        if not _same_kind(array.dtype, leaf.dtype):
            raise InputError(
                f"{place.text}: {name} is {array.dtype}, the model's {leaf.dtype}; "
                "convert it before you save it"
            )
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


def _same_kind(stored, wanted) -> bool:
    """Whether both are floating-point, or both integers, and so on."""
    kinds = (jax.numpy.floating, jax.numpy.complexfloating, np.integer, np.bool_)
    return any(
        jax.numpy.issubdtype(stored, kind) and jax.numpy.issubdtype(wanted, kind)
        for kind in kinds
    )
