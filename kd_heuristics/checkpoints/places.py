"""Where the checkpoints of a training lie."""

from etils import epath

from kd_heuristics import files, hosts
from kd_heuristics.checkpoints import manifest


def steps(directory: files.AnyPath) -> list[int]:
    """The steps that have a checkpoint in `directory`, ascending; [] where none has."""
    return hosts.first(_steps, epath.Path(directory))


def _steps(folder):
    if not folder.exists():
        return []
    found = [path for path in folder.iterdir() if path.name.isdigit()]
    if files.is_store(folder):
        # Nothing is renamed there: the manifest comes last, and goes first.
        found = [path for path in found if (path / manifest.FILE).exists()]
    return sorted(int(path.name) for path in found)


def path_of(directory: files.AnyPath, step: int) -> epath.Path:
    """The folder of a step; raises ValueError for a negative one."""
    if step < 0:
        raise ValueError(f"step must not be negative, got {step}")
    folder = epath.Path(directory)
    if not files.is_store(folder):
        folder = folder.absolute()  # orbax takes no others
    return folder / f"{step:08d}"
