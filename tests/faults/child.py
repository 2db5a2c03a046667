"""Runs a module as its own program, killed at one of its changes to the file system.

    python -m tests.faults.child FOLDER NUMBER MODULE ARGUMENTS...

SIGKILL falls just before change NUMBER (from 1) below FOLDER: a file opened to be
written, a rename, a removal, a folder made. 0: never; their count is then printed at
the end as the last line, "changes: N". What orbax writes through tensorstore is seen
by its folders and renames alone: kills at moments of the clock fall in between.
"""

import atexit
import os
import runpy
import signal
import sys

EVENTS = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate")


def watch(folder: str, number: int) -> None:
    """Counts changes below a folder, and kills this process before one of them."""
    count = 0

    def hook(event, arguments):
        nonlocal count
        if event == "open":
            path, mode, flags = arguments
            writes = flags & (os.O_WRONLY | os.O_RDWR) if flags else mode in ("w", "a")
            if not writes:
                return
        elif event in EVENTS:
            path = arguments[0]
        else:
            return
        if isinstance(path, str | os.PathLike) and os.fspath(path).startswith(folder):
            count += 1
            if count == number:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    if not number:
        atexit.register(lambda: print(f"changes: {count}"))


def main() -> None:
    """See above."""
    folder, number, module, *arguments = sys.argv[1:]
    watch(os.path.abspath(folder), int(number))
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
