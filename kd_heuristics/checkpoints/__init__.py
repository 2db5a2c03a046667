"""Verified checkpoints of any pytree, written atomically.

Orbax does not detect changed bytes of an array. Each checkpoint here therefore carries
a manifest of its files' SHA-256 sums, which `restore` compares before orbax sees the
files. A checkpoint is written to a temporary sibling folder and renamed at the end, so
a kill leaves earlier checkpoints intact. Nothing is unpickled.
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
