"""The user's own models: "module:function" or "file.py:function".

The function is `make(num_classes, **options) -> Network`. Its module is imported once.
"""

import functools
import hashlib
import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from kd_heuristics.models.network import Network
from kd_heuristics.runtime import nearest
from kd_heuristics.runtime.errors import InputError, users_place

_FORM = (
    "give MODULE:FUNCTION, with a module that is importable from here, or "
    "FILE.py:FUNCTION, with a file relative to the working directory"
)


def is_own(name: str) -> bool:
    """Whether a name is the user's: "nets:make", or "nets.py:make"."""
    return ":" in name


def function(name: str) -> Callable[..., Any]:
    """Imports the function of a name.

    Raises:
      ValueError: the file or module is not found or cannot be imported, or has no such
        function.
    """
    source, _, attribute = name.rpartition(":")
    try:
        module = _of_file(source) if source.endswith(".py") else _of_module(source)
    except (ImportError, OSError, SyntaxError, ValueError) as error:
        place = users_place(error)
        raise ValueError(f"model {name}: {error}{place}; {_FORM}") from error
    found = getattr(module, attribute, None)
    if not callable(found):
        near = nearest.nearest(attribute, _functions(module))
        hint = f"did you mean {near!r}? " if near else ""
        raise ValueError(
            f"model {name}: {source} has no function {attribute!r}; {hint}{_FORM}"
        )
    return found


def takes_classes(name: str, options: Mapping[str, Any]) -> bool:
    """Whether the function can be called with a number of classes and these options."""
    try:
        _signature(function(name)).bind(2, **options)
    except (TypeError, ValueError):
        return False
    return True


def check(name: str, num_classes: int | None, options: Mapping[str, Any]) -> None:
    """Raises ValueError if the function does not take the arguments, without a call."""
    found = function(name)
    signature = _signature(found)
    classes = [] if num_classes is None else ["num_classes"]
    try:
        signature.bind(*classes, **options)
    except TypeError as error:
        given = ", ".join([*classes, *(f"{k}={v!r}" for k, v in options.items())])
        wanted = ", ".join([*classes, "**options"])
        raise ValueError(
            f"model {name} takes {signature}, so it cannot be called with ({given}): "
            f"{error}; define make({wanted}), with defaults for options"
        ) from error


def accepted(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options in the function's signature; all of them if it has `**`."""
    parameters = [*_signature(function(name)).parameters.values()]
    if any(its.kind is its.VAR_KEYWORD for its in parameters):
        return dict(options)
    named = {its.name for its in parameters[1:] if its.kind is not its.POSITIONAL_ONLY}
    return {key: value for key, value in options.items() if key in named}


def make(name: str, num_classes: int | None, options: Mapping[str, Any]) -> Network:
    """Calls the function; equal arguments return the same network.

    Raises:
      InputError: the function does not return a `Network`.
    """
    make = function(name)
    classes = () if num_classes is None else (num_classes,)
    try:
        hash(tuple(options.values()))
    except TypeError:  # a list or an array
        made = make(*classes, **options)
    else:
        made = _kept(make, *classes, **options)
    if not isinstance(made, Network):
        raise InputError(
            f"model {name} returned a {type(made).__name__}, not a models.Network; "
            "make one with models.from_nnx, from_equinox, from_linen or from_functions"
        )
    return made


@functools.lru_cache(maxsize=None, typed=True)  # width=1 is not width=1.0
def _kept(make, /, *classes, **options):
    """Calls a function once for equal arguments."""
    return make(*classes, **options)


def _signature(found: Callable) -> inspect.Signature:
    """Returns the signature of a function; without one, a signature for anything."""
    try:
        return inspect.signature(found)
    except ValueError:  # a built-in
        return inspect.signature(lambda *args, **options: None)


def _of_module(name: str) -> ModuleType:
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    return importlib.import_module(name)


def _of_file(text: str) -> ModuleType:
    """Imports a file once, under a unique name."""
    path = Path(text).expanduser().resolve()
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    name = f"own_{path.stem}"
    if name in sys.modules and sys.modules[name].__file__ != str(path):
        name += "_" + hashlib.sha256(str(path).encode()).hexdigest()[:8]
    if name in sys.modules:
        return sys.modules[name]
    spec: Any = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # as for a script, to import its neighbours
    sys.modules[name] = module  # dataclasses and Flax look it up
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _functions(module: ModuleType) -> list[str]:
    return [
        name
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__
    ]
