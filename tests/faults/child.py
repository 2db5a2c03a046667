"""Runs a module as a program of its own, killed before one of its changes to files.

    python -m tests.faults.child FOLDER NUMBER MODULE ARGUMENTS...

SIGKILL falls just before change NUMBER (from 1) below FOLDER; 0: never.
"""

import os
import runpy
import signal
import sys

from tests.faults import moments


def main() -> None:
    """See above."""
    folder, number, module, *arguments = sys.argv[1:]
    moments.Changes().watch(
        folder, int(number), lambda: os.kill(os.getpid(), signal.SIGKILL)
    )
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
