"""A lock that allows one run at a time in a folder, released if its owner dies."""

import contextlib
import json
import os
import secrets
import shlex
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock

from kd_heuristics.runtime import files

FILE = ".lock"
OWNER = ".lock-owner"  # a file of its own: on Windows a locked file is unreadable


class LockedError(Exception):
    """Error that another process holds the lock; the message names it."""


@contextlib.contextmanager
def lock(folder: Any) -> Iterator[None]:
    """Holds `folder/.lock` in the context, and deletes it at the end.

    The operating system releases the lock when the process ends for any reason, so a
    file left by a kill blocks no one. Runs on other machines go unnoticed on a network
    file system that does not propagate locks (most do).

    On an object store ("gs://") the file only names the owner. Two runs that start
    within the same second may both enter. SIGTERM and errors remove the file; a kill
    leaves it, and it then blocks all runs until it is removed by hand.

    Args:
      folder: path as returned by `files.path`.

    Raises:
      LockedError: another process holds the lock, or was killed while holding it on an
        object store.
    """
    if files.is_store(folder):
        yield from _on_store(folder / FILE)
        return
    held, owner = filelock.FileLock(folder / FILE, thread_local=False), folder / OWNER
    try:
        held.acquire(timeout=0)
    except filelock.Timeout:
        raise LockedError(_words(_content(owner))) from None
    try:
        owner.write_text(json.dumps(_holder()), encoding="utf-8")
        yield
    finally:
        # Deleted while the lock is held, so that a process which has opened the file
        # sees that it is gone and creates another. Windows keeps an open file, which
        # blocks no one.
        try:
            for path in (owner, folder / FILE):
                with contextlib.suppress(OSError):
                    path.unlink()
        finally:
            held.release()


def _on_store(path) -> Iterator[None]:
    """Writes a store's lock file; raises LockedError if another is there."""
    mine = json.dumps(_holder() | {"token": secrets.token_hex()}).encode()
    if not path.exists():
        path.write_bytes(mine)
    found = path.read_bytes()
    if found != mine:
        raise LockedError(
            f"{_words(found)}. If that process is gone, it was killed: remove {path}"
        )
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()


def _content(owner: Path) -> bytes:
    """Returns the contents of an owner's file, empty if it is missing."""
    try:
        return owner.read_bytes()
    except OSError:
        return b""


def _holder() -> dict[str, object]:
    """Returns the description of this process for the lock."""
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "since": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "command": shlex.join([Path(sys.executable).name, *sys.orig_argv[1:]]),
    }


def _words(content: bytes) -> str:
    """Describes the owner named in a lock file."""
    try:
        holder = json.loads(content)
        return (
            f"process {holder['pid']} on {holder['host']}, since {holder['since']}: "
            f"{holder['command']}"
        )
    except (ValueError, KeyError, TypeError):
        return "a process that has only just taken it"
