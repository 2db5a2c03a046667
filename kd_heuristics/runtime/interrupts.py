"""SIGTERM and SIGINT: the first asks a run to stop, the second stops it at once.

A compiled call takes seconds, a compilation minutes, and Python's own handlers wait for
both. A thread therefore reads the signals from the wakeup file descriptor. After the
first, a training finishes the running call, saves a checkpoint and raises
`Interrupted`. The second ends the process immediately, which is as safe as SIGKILL.

With several processes (`hosts`), a signal to one is enough: they agree at each `check`
and stop at the same step.

A forked child, such as a worker of `multiprocessing`, gets Python's own handlers back:
a signal to it, or to the whole process group, is no second signal to its parent.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

from kd_heuristics.runtime import hosts

SIGNALS = (signal.SIGINT, signal.SIGTERM)

_received: list[int] = []
_before: dict[int, Any] = {}  # handlers that ours replace, by signal


class Interrupted(BaseException):
    """A run was asked to stop. Not an Exception, so handlers of failures let it pass.

    Attributes:
      status: exit status, 128 plus the signal's number: 130 or 143.
    """

    def __init__(self, number: int):
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.status = 128 + number


def received() -> bool:
    """Whether this process received a signal inside `handled`."""
    return bool(_received)


def check() -> None:
    """Raises `Interrupted` if a signal was received inside `handled`.

    All processes must call it; it raises in all or in none.
    """
    number = hosts.highest(_received[0] if _received else 0)
    if number:
        raise Interrupted(number)


@contextlib.contextmanager
def handled() -> Iterator[None]:
    """Records signals for `check` in the context; restores the old handlers after it.

    For the main thread of a program. Does nothing in other threads or if nested.
    """
    if threading.current_thread() is not threading.main_thread() or _watching():
        yield
        return
    read, write = os.pipe()
    os.set_blocking(write, False)
    for number in SIGNALS:
        _before[number] = signal.signal(number, _nothing)
    descriptor = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    watcher = threading.Thread(target=_watch, args=(read,), name="signals", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        if _watching():
            signal.set_wakeup_fd(descriptor)
            _restore()
        os.close(write)  # the watcher reads its end
        watcher.join()
        os.close(read)


def _restore():
    for number, handler in _before.items():
        # None: the handler was not installed from Python.
        signal.signal(number, signal.SIG_DFL if handler is None else handler)
    _before.clear()
    _received.clear()


# Signals are blocked during a fork until the child has detached from the descriptor: an
# earlier signal to the child would be written to it.
_masks = threading.local()


def _before_fork():
    _masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


def _after_fork():
    signal.pthread_sigmask(signal.SIG_SETMASK, _masks.before)


def _in_child():
    """Gives a forked child its earlier handlers back."""
    if _watching():
        signal.set_wakeup_fd(-1)
        _restore()
    _after_fork()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork, after_in_child=_in_child
    )


def _watching() -> bool:
    return signal.getsignal(signal.SIGTERM) is _nothing


def _nothing(number, frame):
    """Handler that does nothing; the descriptor is written to only if there is one."""


def _watch(read):
    """Reads signals from a pipe; the second stops the process at once."""
    while numbers := os.read(read, 64):
        for number in numbers:
            if number not in SIGNALS:
                continue
            if _received:
                _stop(number)
            _received.append(number)
            _say(
                f"{signal.Signals(number).name}: stopping after the call that is "
                "running; once more stops at once"
            )


def _stop(number):
    """Ends the process, whatever it is doing."""
    # A progress bar hides the cursor; show it again.
    _say("stopped at once" + ("\x1b[?25h" if sys.stderr.isatty() else ""))
    os._exit(128 + number)


def _say(words):
    # Not through sys.stderr: the main thread may hold its lock.
    with contextlib.suppress(OSError):
        os.write(2, f"\n{words}\n".encode())
