"""Reads the arrays of a checkpoint, in whichever form it is stored."""

import functools
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from kd_heuristics.runtime import files
from kd_heuristics.runtime.errors import InputError, first_line

PyTree = Any


def read_file(path: Path) -> PyTree:
    """Returns the tree of a file: an ".npz", ".safetensors", or Flax's msgpack.

    Flax's `to_bytes` has no suffix of its own, so any other file is read as msgpack.

    Raises: InputError if the file is damaged or has another form.
    """
    kind = path.suffix.lower()
    reader = {".npz": _npz, ".safetensors": _safetensors}.get(kind, _msgpack)
    return reader(path)


def read_orbax(folder: Path) -> PyTree:
    """Returns the tree of any orbax checkpoint.

    Raises: InputError if orbax cannot read it.
    """
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


def _npz(path: Path) -> dict[str, np.ndarray]:
    how = "numpy.savez(path, **flax.traverse_util.flatten_dict(params, sep='/'))"
    return _read(path, files.read_arrays, "a readable .npz of named arrays", how)


def _safetensors(path: Path) -> dict[str, np.ndarray]:
    try:
        from safetensors.numpy import load_file
    except ImportError as error:
        raise InputError(
            f"{path} needs the package safetensors: pip install safetensors"
        ) from error
    flat = "flax.traverse_util.flatten_dict(params, sep='.')"
    how = f"safetensors.flax.save_file({flat}, path)"
    return _read(path, load_file, "a readable .safetensors file", how)


def _msgpack(path: Path) -> PyTree:
    from flax import serialization

    def load(path):
        found = serialization.msgpack_restore(path.read_bytes())
        if not isinstance(found, dict):
            raise InputError(f"it holds a {type(found).__name__}, no dictionary")
        return found

    how = "path.write_bytes(flax.serialization.to_bytes(params))"
    return _read(path, load, "an .npz, a .safetensors, or readable as msgpack", how)


def _read(path: Path, load: Callable[[Path], PyTree], form: str, how: str) -> PyTree:
    """Returns what `load` reads; any error becomes an InputError in one sentence."""
    try:
        return load(path)
    except Exception as error:  # each library raises its own kinds
        raise InputError(
            f"{path} is not {form} ({first_line(error)}); write one with {how}"
        ) from error
