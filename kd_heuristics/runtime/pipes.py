"""A program whose output nobody reads any more ends quietly, as others do."""

import contextlib
import os
import select
import sys
from collections.abc import Iterator
from typing import Any

_STATUS = 1


@contextlib.contextmanager
def unread_ends_quietly() -> Iterator[None]:
    """Exit with status 1 if the reader of stdout or stderr leaves, as `head` does.

    A program that exits with a status of its own keeps it. Any other BrokenPipeError,
    such as that of a connection, is raised.
    """
    status: Any = _STATUS
    try:
        try:
            yield
        except SystemExit as error:
            status = error.code or _STATUS
            raise
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except BrokenPipeError:
        closed = [stream for stream in (sys.stdout, sys.stderr) if _is_unread(stream)]
        if not closed:
            raise
        for stream in closed:  # Python flushes them once more as it exits
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        raise SystemExit(status) from None


def _is_unread(stream: Any) -> bool:
    """Whether the reader of a stream's pipe has left."""
    if not hasattr(select, "poll"):  # Windows; what could not be written fails again
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            return True
        return False
    try:
        poll = select.poll()
        poll.register(stream.fileno(), 0)
    except (AttributeError, OSError, ValueError):  # no stream of the system
        return False
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
