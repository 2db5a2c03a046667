"""Where the checkpoints of a training lie."""

from pathlib import Path

from etils import epath


def steps(directory: str | Path) -> list[int]:
    """The steps that have a checkpoint in `directory`, ascending; [] where none has."""
    folder = epath.Path(directory)
    if not folder.exists():
        return []
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())


def path_of(directory: str | Path, step: int) -> epath.Path:
    """The folder of a step; raises ValueError for a negative one."""
    if step < 0:
        raise ValueError(f"step must not be negative, got {step}")
    # orbax takes absolute paths only
    return epath.Path(directory).absolute() / f"{step:08d}"
