"""Errors of other libraries in one line, for our messages."""

import re


def first_line(error: Exception) -> str:
    """Returns an error's type and the first line of its message, without addresses.

    >>> first_line(OSError("cannot identify image file <_io.BytesIO object at 0x7f3>"))
    'OSError: cannot identify image file'
    """
    first, *_ = [*str(error).strip().splitlines(), "no more is known"]
    words = re.sub(r" ?<[^<>]* object at 0x[0-9a-f]+>", "", first)
    return f"{type(error).__name__}: {words}"
