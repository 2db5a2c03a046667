"""Earlier names of public functions, kept for one release with a warning."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any


def earlier(
    old: str, new: str, names: Mapping[str, tuple[str, Any]]
) -> Callable[[str], Any]:
    """Returns the `__getattr__` of a module that has earlier names.

    Args:
      old: module of the earlier names.
      new: module of today's names.
      names: today's name and its value for each earlier name.
    """

    def __getattr__(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {old!r} has no attribute {name!r}")
        today, value = names[name]
        words = f"{old}.{name} is deprecated; take {new}.{today}"
        warnings.warn(words, DeprecationWarning, stacklevel=2)
        return value

    return __getattr__


def moved(old: str, module: Any) -> Callable[[str], Any]:
    """Returns the `__getattr__` of a module that was moved to `module`."""
    public = {k: (k, v) for k, v in vars(module).items() if not k.startswith("_")}
    return earlier(old, module.__name__, public)
