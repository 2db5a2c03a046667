"""One run at a time in a run folder: a lock that its holder's death releases.

An object store has no locks: see `lock` for what is done there.
"""

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

from kd_heuristics.runtime import files

try:
    import fcntl
except ImportError:  # Windows: two runs in one folder are not noticed there
    fcntl = None

FILE = ".lock"


class LockedError(Exception):
    """Another process holds the lock; the message says which."""


@contextlib.contextmanager
def lock(folder: Any) -> Iterator[None]:
    """Holds `folder/.lock` while inside; the file goes at the end.

    The operating system releases it when the process ends, however it ends, so a file
    that a kill left behind locks nobody out. On a network file system that does not
    pass on `flock` (most do), runs of other machines are not noticed; nor is anything
    on Windows.

    On an object store ("gs://") the file only says who is inside. Two runs that start
    within the same second may both come in, and a kill leaves the file behind, which
    then locks everybody out until it is removed by hand; SIGTERM and errors remove it.

    Args:
      folder: a path as of `files.path`.

    Raises:
      LockedError: another process is inside, or was and was killed.
    """
    if files.is_store(folder):
        yield from _on_store(folder / FILE)
        return
    if fcntl is None:
        yield
        return
    path = folder / FILE
    descriptor = _acquire(path)
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(_holder()).encode(), 0)
        yield
    finally:
        try:
            # While it is held: whoever opened it before sees that it is gone.
            with contextlib.suppress(OSError):
                path.unlink()
        finally:
            os.close(descriptor)


def _on_store(path) -> Iterator[None]:
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


def _acquire(path: Path) -> int:
    assert fcntl is not None
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            words = _words(os.pread(descriptor, 1 << 16, 0))
            os.close(descriptor)
            raise LockedError(words) from None
        except BaseException:
            os.close(descriptor)
            raise
        if _is(path, descriptor):
            return descriptor
        os.close(descriptor)  # its holder has just left and taken the file away


def _is(path, descriptor):
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _holder() -> dict[str, object]:
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "since": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "command": shlex.join([Path(sys.executable).name, *sys.orig_argv[1:]]),
    }


def _words(content: bytes) -> str:
    """Who holds it."""
    try:
        holder = json.loads(content)
        return (
            f"process {holder['pid']} on {holder['host']}, since {holder['since']}: "
            f"{holder['command']}"
        )
    except (ValueError, KeyError, TypeError):
        return "a process that has only just taken it"
