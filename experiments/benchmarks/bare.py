"""Stand-ins for two packages that a bare machine lacks, so that nothing is installed.

`jaxtyping` only annotates shapes, and `threadpoolctl` limits LAPACK's threads on a CPU:
without either, our functions compute the same. Only benchmarks may do this.
"""

import contextlib
import importlib.util
import sys
import types
from typing import Any


def fill() -> list[str]:
    """Puts stand-ins in place of those that are missing; their names."""
    missing = [name for name in _STAND_INS if importlib.util.find_spec(name) is None]
    for name in missing:
        sys.modules[name] = _STAND_INS[name]()
    return missing


class _Annotation:
    """In place of a type: `Float[Array, "batch"]` is anything."""

    def __class_getitem__(cls, _):
        return Any


class _Controller:
    """In place of the control over threads: it limits none."""

    def limit(self, **_):
        """A context that does nothing."""
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
