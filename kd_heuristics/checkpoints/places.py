"""Paths of a training's checkpoints."""

from typing import Any, SupportsIndex

from etils import epath

from kd_heuristics.checkpoints import manifest
from kd_heuristics.runtime import files, hosts
from kd_heuristics.runtime.values import integer


def steps(directory: files.AnyPath) -> list[int]:
    """Returns the steps that have a checkpoint in `directory`, ascending."""
    return hosts.first(_steps, folder_of(directory))


def _steps(folder):
    if not folder.exists():
        return []
    found = [path for path in folder.iterdir() if is_step(path)]
    if files.is_store(folder):
        # A store cannot rename: the manifest is written last and deleted first.
        found = [path for path in found if (path / manifest.FILE).exists()]
    return sorted(int(path.name) for path in found)


def is_step(path: Any) -> bool:
    """Whether a path is a folder named as a step, in ASCII digits."""
    name = path.name
    return name.isascii() and name.isdigit() and path.is_dir()


def as_step(step: Any) -> int:
    """Convert a step of any integer type to a Python integer.

    Raises: TypeError if it is not an integer; ValueError if it is negative.
    """
    return integer("step", step, 0)


def folder_of(directory: files.AnyPath) -> epath.Path:
    """Returns the folder of the checkpoints as an `epath.Path`."""
    folder = epath.Path(files.path(directory))
    # Orbax accepts only absolute local paths.
    return folder if files.is_store(folder) else folder.absolute()


def path_of(directory: files.AnyPath, step: SupportsIndex) -> epath.Path:
    """Returns the folder of a step; see `as_step` for errors."""
    return folder_of(directory) / f"{as_step(step):08d}"
