"""Runs a module as a program of its own, signalled before one of its changes to files.

    python -m tests.faults.child FOLDER NUMBER SIGNAL MODULE ARGUMENTS...

SIGNAL (KILL, TERM or INT) comes once, just before change NUMBER (from 1) below FOLDER;
0: never.
"""

import os
import runpy
import signal
import sys

from tests.faults import moments


def main() -> None:
    """See above."""
    folder, number, name, module, *arguments = sys.argv[1:]
    left = [signal.Signals[f"SIG{name}"]]

    def once():
        if left:
            os.kill(os.getpid(), left.pop())

    moments.Changes().watch(folder, int(number), once)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
