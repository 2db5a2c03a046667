"""Where the checkpoints of a training lie."""

from typing import Any, SupportsIndex

from etils import epath

from kd_heuristics import files, hosts
from kd_heuristics.checkpoints import manifest
from kd_heuristics.integers import integer


def steps(directory: files.AnyPath) -> list[int]:
    """The steps that have a checkpoint in `directory`, ascending; [] where none has."""
    return hosts.first(_steps, folder_of(directory))


def _steps(folder):
    if not folder.exists():
        return []
    found = [path for path in folder.iterdir() if is_step(path)]
    if files.is_store(folder):
        # Nothing is renamed there: the manifest comes last, and goes first.
        found = [path for path in found if (path / manifest.FILE).exists()]
    return sorted(int(path.name) for path in found)


def is_step(path: Any) -> bool:
    """Whether a path is a folder with the name of a step, in ASCII digits."""
    name = path.name
    return name.isascii() and name.isdigit() and path.is_dir()


def as_step(step: Any) -> int:
    """A step as a Python integer, from any integer type.

    Raises: TypeError for what is no integer; ValueError for a negative one.
    """
    return integer("step", step, 0)


def folder_of(directory: files.AnyPath) -> epath.Path:
    """The folder of the checkpoints, as epath has it."""
    folder = epath.Path(files.path(directory))
    # Orbax takes no others.
    return folder if files.is_store(folder) else folder.absolute()


def path_of(directory: files.AnyPath, step: SupportsIndex) -> epath.Path:
    """The folder of a step; raises as `as_step`."""
    return folder_of(directory) / f"{as_step(step):08d}"
