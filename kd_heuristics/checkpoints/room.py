"""Disk space that checkpoints take, and a check that a disk has it."""

import shutil
from typing import Any

import jax

from kd_heuristics.checkpoints import leaf
from kd_heuristics.checkpoints.manifest import CheckpointError
from kd_heuristics.checkpoints.places import folder_of
from kd_heuristics.runtime import hosts
from kd_heuristics.runtime.files import AnyPath, is_store

PyTree = Any


def size(tree: PyTree) -> int:
    """Returns the bytes of a tree's leaves, about the size of its checkpoint."""
    return sum(map(leaf.nbytes, jax.tree.leaves(tree)))


def check_room(directory: AnyPath, tree: PyTree, count: int) -> None:
    """Raise if a disk has no room for `count` checkpoints of a tree.

    Does not see quotas and buckets, for which `save` itself raises.

    Raises:
      CheckpointError: there is less room than the checkpoints take.
    """
    if not is_store(directory):
        hosts.first(_check_room, folder_of(directory), tree, count)


def _check_room(folder, tree, count):
    while not folder.exists():
        folder = folder.parent
    free, needed = shutil.disk_usage(folder).free, count * size(tree)
    if free < needed:
        raise CheckpointError(
            f"{count} checkpoints of {size(tree) / 1e6:.0f} MB need "
            f"{needed / 1e6:.0f} MB, but {folder} has {free / 1e6:.0f} MB left; make "
            "room, or choose another folder with --workdir"
        )
