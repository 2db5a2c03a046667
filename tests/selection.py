"""Which of a test's parameters run in `make test-all` only."""

from collections.abc import Callable, Iterable

import pytest


def some_long(names: Iterable[str], is_long: Callable[[str], object]) -> list:
    """The names as parameters, those marked `long` for which it holds."""
    marks = pytest.mark.long
    return [pytest.param(n, marks=marks) if is_long(n) else n for n in names]
