"""SIGTERM and SIGINT: the first asks a run to stop, the second stops it at once.

A compiled call takes seconds, a compilation minutes, and Python's own handlers wait for
both. The signals are therefore seen by a thread, through the wakeup file descriptor:
the first is noted, and a training saves a checkpoint after the call that is running and
raises `Interrupted`; the second ends the process there and then, which is no more than
what SIGKILL does and as harmless.

Of several processes (`hosts`) one is enough: they agree at each `check`, and stop at
the same step.

A forked child, such as a worker of `multiprocessing`, has Python's own handlers again:
a signal to it, or one to the whole process group, is no second signal to its parent.
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
_before: dict[int, Any] = {}  # handlers in place of which ours are, by signal


class Interrupted(BaseException):
    """A run was asked to stop. No Exception: handlers of failures must not stop it.

    Attributes:
      status: the exit status, 128 and the signal's number: 130 or 143.
    """

    def __init__(self, number: int):
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.status = 128 + number


def received() -> bool:
    """Whether this process received a signal inside `handled`."""
    return bool(_received)


def check() -> None:
    """Raises `Interrupted` where a signal was received inside `handled`.

    With several processes all of them must call it, and it raises in all or in none.
    """
    number = hosts.highest(_received[0] if _received else 0)
    if number:
        raise Interrupted(number)


@contextlib.contextmanager
def handled() -> Iterator[None]:
    """Inside it the signals are noted, for `check`; outside they do what they did.

    For the main thread of a program; elsewhere, and inside itself, it does nothing.
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
        # None: not one of Python's.
        signal.signal(number, signal.SIG_DFL if handler is None else handler)
    _before.clear()
    _received.clear()


# A fork holds the signals back until the child has left the descriptor to its parent:
# one that came before would be written to it.
_masks = threading.local()


def _before_fork():
    _masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


def _after_fork():
    signal.pthread_sigmask(signal.SIG_SETMASK, _masks.before)


def _in_child():
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
    """A handler in Python must be there for the descriptor to be written to."""


def _watch(read):
    """Reads signals from a pipe; the second of them stops the process at once."""
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
    # A bar hides the cursor.
    _say("stopped at once" + ("\x1b[?25h" if sys.stderr.isatty() else ""))
    os._exit(128 + number)


def _say(words):
    # Not through sys.stderr, whose lock the main thread may hold.
    with contextlib.suppress(OSError):
        os.write(2, f"\n{words}\n".encode())
