"""Deaths at a chosen moment: just before a change to the files of a folder.

A change is a file opened to be written, a rename, a removal or a folder made, as
Python's audit events tell them. What orbax writes through tensorstore shows in its
folders and renames alone; kills at moments of the clock fall in between.
"""

import os
import sys
import types
from pathlib import Path

from kd_heuristics.checkpoints import store

EVENTS = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate")


class Death(BaseException):
    """Stands for SIGKILL within a process: nothing is written after it."""


class Changes:
    """Counts the changes below a folder; dies before one, and before all after it.

    An audit hook stays for as long as the process does, so there is one for all.
    """

    def __init__(self):
        self.folder, self.at, self.count, self.paused = None, 0, 0, False
        self.die = raise_death
        sys.addaudithook(self._hook)

    def watch(self, folder, at=0, die=None):
        """Counts from 0 again; dies at change `at`, counted from 1; 0: never."""
        self.folder = None if folder is None else os.path.abspath(folder)
        self.at, self.count, self.die = at, 0, die or raise_death

    def spare_orbax(self):
        """Within a process orbax' threads would outlive a death inside of it.

        A save of orbax is then two changes, before it and amid it: the second leaves
        half of its files, under the name that orbax gives to what is not finished.
        """
        real = store.ocp

        def save(path, tree):
            self._change()
            self.paused = True
            try:
                real.save(path, tree)
                if self.folder is not None and self.at == self.count + 1:
                    halve(Path(path))
            finally:
                self.paused = False
            self._change()

        store.ocp = types.SimpleNamespace(save=save, load=real.load)

    def _hook(self, event, arguments):
        if self.folder is None or self.paused:
            return
        if is_change(event, arguments, self.folder):
            self._change()

    def _change(self):
        self.count += 1
        if self.folder is not None and self.at and self.count >= self.at:
            self.die()


def halve(path):
    """Every other file of a folder is gone, and its name is orbax' temporary one."""
    for file in sorted(p for p in path.rglob("*") if p.is_file())[::2]:
        file.unlink()
    path.rename(path.with_name(f"{path.name}.orbax-checkpoint-tmp-1"))


def is_change(event, arguments, folder) -> bool:
    """Whether an audit event is a change below a folder."""
    if event == "open":
        path, mode, flags = arguments
        if not (flags or 0) & (os.O_WRONLY | os.O_RDWR) and mode not in ("w", "a"):
            return False
    elif event in EVENTS:
        path = arguments[0]
    else:
        return False
    return isinstance(path, str | os.PathLike) and os.fspath(path).startswith(folder)


def raise_death():
    """What `Changes` does unless told otherwise."""
    raise Death
