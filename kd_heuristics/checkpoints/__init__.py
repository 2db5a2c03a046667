"""Checkpoints of any pytree: written whole or not at all, checked when read.

Orbax reads an array whose bytes have changed without a word. Each checkpoint here
therefore carries a manifest of its files' SHA-256 sums, which `restore` compares
before orbax sees the files. A checkpoint is written beside its place and renamed at the
end, so a kill leaves the earlier ones as they were. Nothing is unpickled.
"""

from kd_heuristics.checkpoints.choose import (
    DamageWarning,
    best,
    is_good,
    newest_good,
    notes,
)
from kd_heuristics.checkpoints.manifest import CheckpointError, DamagedError
from kd_heuristics.checkpoints.places import is_step, steps
from kd_heuristics.checkpoints.room import check_room, size
from kd_heuristics.checkpoints.store import remove, restore, save, tidy

__all__ = [
    "CheckpointError",
    "DamageWarning",
    "DamagedError",
    "best",
    "check_room",
    "is_good",
    "is_step",
    "newest_good",
    "notes",
    "remove",
    "restore",
    "save",
    "size",
    "steps",
    "tidy",
]
