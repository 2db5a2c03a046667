"""Deaths at a chosen moment: just before a change to the files of a folder.

A change is a file opened to be written, a rename, a removal or a folder made, as
Python's audit events tell them. What orbax writes through tensorstore shows in its
folders and renames alone; kills at moments of the clock fall in between.
"""

import os
import sys

EVENTS = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate")


class Death(BaseException):
    """Stands for SIGKILL within a process: nothing is written after it."""


class Changes:
    """Counts the changes below a folder; dies before one, and before all after it.

    An audit hook stays for as long as the process does, so there is one for all.
    """

    def __init__(self):
        self.folder, self.at, self.count = None, 0, 0
        self.die = raise_death
        sys.addaudithook(self._hook)

    def watch(self, folder, at=0, die=None):
        """Counts from 0 again; dies at change `at`, counted from 1; 0: never."""
        self.folder = None if folder is None else os.path.abspath(folder)
        self.at, self.count, self.die = at, 0, die or raise_death

    def _hook(self, event, arguments):
        if self.folder is None or not is_change(event, arguments, self.folder):
            return
        self.count += 1
        if self.at and self.count >= self.at:
            self.die()


def is_change(event, arguments, folder) -> bool:
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
    raise Death
