"""Damage to one file, as disks, half copies and other programs do it."""

import shutil
from collections.abc import Callable
from pathlib import Path


def flip(path: Path, other: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path: Path, other: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def empty(path: Path, other: Path) -> None:
    path.write_bytes(b"")


def delete(path: Path, other: Path) -> None:
    path.unlink()


def swap(path: Path, other: Path) -> None:
    """With the same file of another checkpoint."""
    aside = path.with_name("aside")
    path.rename(aside)
    if other.exists():
        other.rename(path)
    aside.rename(other)


def foreign(path: Path, other: Path) -> None:
    """A file that is not of it, beside it."""
    shutil.copy(path, path.with_name(f"{path.name}.copy"))


KINDS: dict[str, Callable[[Path, Path], None]] = {
    kind.__name__: kind for kind in (flip, truncate, empty, delete, swap, foreign)
}


def files(checkpoint: Path) -> list[Path]:
    """Relative names of a checkpoint's files."""
    found = sorted(path for path in checkpoint.rglob("*") if path.is_file())
    return [path.relative_to(checkpoint) for path in found]


def changes(kind: str, path: Path, other: Path) -> bool:
    """Whether the damage would change anything: an empty file cannot be emptied."""
    content = path.read_bytes()
    if kind == "swap":
        return not other.exists() or other.read_bytes() != content
    return bool(content) or kind in ("delete", "foreign")
