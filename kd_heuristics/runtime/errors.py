"""Errors that a program prints in one line, without a traceback."""

import contextlib
import re
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path

_OURS = ("kd_heuristics", "experiments")
_STANDARD = sysconfig.get_path("stdlib")
_INSTALLED = {"site-packages", "dist-packages"}  # of the system, the user, a venv


class InputError(ValueError):
    """What the user gave is wrong: an argument, a file, a model; names the remedy."""


@contextlib.contextmanager
def checking_input() -> Iterator[None]:
    """Turn a ValueError in the context into an InputError.

    Only for calls whose ValueErrors concern what the user gave. Any other ValueError is
    a bug, whose traceback the user should see. The words name the line of the user's
    own code that raised it, if there is one.
    """
    try:
        yield
    except ValueError as error:
        raise InputError(f"{error}{users_place(error)}") from error


def first_line(error: Exception) -> str:
    """Returns an error's type and the first line of its message, without addresses.

    >>> first_line(OSError("cannot identify image file <_io.BytesIO object at 0x7f3>"))
    'OSError: cannot identify image file'
    """
    first, *_ = [*str(error).strip().splitlines(), "no more is known"]
    words = re.sub(r" ?<[^<>]* object at 0x[0-9a-f]+>", "", first)
    return f"{type(error).__name__}: {words}"


def users_place(error: BaseException) -> str:
    """Returns ", in FILE, line N" for the user's own code in an error's traceback.

    It is the innermost line outside of libraries and this project; "" without one.
    """
    for frame, line in reversed([*traceback.walk_tb(error.__traceback__)]):
        file = frame.f_code.co_filename
        package = str(frame.f_globals.get("__name__")).partition(".")[0]
        library = file.startswith(_STANDARD) or _INSTALLED & {*Path(file).parts}
        own = package not in _OURS and not library
        if own and Path(file).is_file():  # not "<frozen importlib>"
            return f", in {file}, line {line}"
    return ""
