"""Which of a test's parameters run in `make test-all` only."""

import re
from collections.abc import Callable, Iterable

import pytest

# Models that take seconds to trace; the others of their kind do not.
LARGE = re.compile(r"bit_r50x3|bit_r1.*|mobilenet_v3_large")


def some_long(names: Iterable[str], is_long: Callable[[str], object]) -> list:
    """The names as parameters, those marked `long` for which it holds."""
    marks = pytest.mark.long
    return [pytest.param(n, marks=marks) if is_long(n) else n for n in names]
