"""Errors that a program prints in one line, without a traceback."""

import contextlib
import re
from collections.abc import Iterator


class InputError(ValueError):
    """What the user gave is wrong: an argument, a file, a model; names the remedy."""


@contextlib.contextmanager
def checking_input() -> Iterator[None]:
    """Turn a ValueError in the context into an InputError.

    Only for calls whose ValueErrors concern what the user gave. Any other ValueError is
    a bug, whose traceback the user should see.
    """
    try:
        yield
    except ValueError as error:
        raise InputError(str(error)) from error


def first_line(error: Exception) -> str:
    """Returns an error's type and the first line of its message, without addresses.

    >>> first_line(OSError("cannot identify image file <_io.BytesIO object at 0x7f3>"))
    'OSError: cannot identify image file'
    """
    first, *_ = [*str(error).strip().splitlines(), "no more is known"]
    words = re.sub(r" ?<[^<>]* object at 0x[0-9a-f]+>", "", first)
    return f"{type(error).__name__}: {words}"
