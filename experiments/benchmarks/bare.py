"""Stand-ins for two packages, so that benchmarks run on a machine without them.

`jaxtyping` only annotates shapes, and `threadpoolctl` limits LAPACK's threads on a CPU:
our functions compute the same without them. Only benchmarks may do this.
"""

import contextlib
import importlib.util
import sys
import types
from typing import Any


def fill() -> list[str]:
    """Installs stand-ins for missing packages; returns their names."""
    missing = [name for name in _STAND_INS if importlib.util.find_spec(name) is None]
    for name in missing:
        sys.modules[name] = _STAND_INS[name]()
    return missing


class _Annotation:
    """Stands for a type: `Float[Array, "batch"]` is anything."""

    def __class_getitem__(cls, _):
        return Any


class _Controller:
    """Stands for the controller of threads, and limits none."""

    def limit(self, **_):
        """Returns a context that does nothing."""
        return contextlib.nullcontext()


def _jaxtyping() -> types.ModuleType:
    module: Any = types.ModuleType("jaxtyping")
    for name in ("Array", "Bool", "Float", "Float32", "Inexact", "Int32", "UInt8"):
        setattr(module, name, type(name, (_Annotation,), {}))
    return module


def _threadpoolctl() -> types.ModuleType:
    module: Any = types.ModuleType("threadpoolctl")
    module.ThreadpoolController = _Controller
    return module


_STAND_INS = {"jaxtyping": _jaxtyping, "threadpoolctl": _threadpoolctl}
