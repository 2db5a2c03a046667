"""Finds the modules that a function reaches."""

import ast
import dataclasses
import functools
import hashlib
import inspect
import sys
import textwrap
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kd_heuristics.runs.code_identity import places, syntax
from kd_heuristics.runs.code_identity.syntax import Source
from kd_heuristics.runtime import onednn


def modules(*things: Any) -> dict[str, str]:
    """Returns the hash of each module that determines a function's numbers.

    Args:
      *things: functions, methods, classes, `functools.partial`s, dataclasses, or lists
        and dictionaries of these. The result includes the modules that define a
        method's object, a partial's arguments, a closure's variables and a dataclass's
        fields.

    Returns: `{module: sha256}`, sorted, for the project's modules and the user's own;
      the same from a checkout and from an installed package. A function without a
      source file, as in a notebook, has the entry "__main__.function". Where
      convolutions are reached, the setting of `runtime.onednn` has an entry too.
    """
    found: dict[str, str] = {}
    waiting: list[str] = []
    for source in _sources(things):
        found[source.name] = source.digest
        waiting += source.uses
    seen: set[str] = set()
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        name = _resolve(path)
        if name is None or name in found or places.shows(name):
            continue
        source = _of_module(name)
        if source is not None:
            found[name] = source.digest
            waiting += source.uses
    if onednn.__name__ in found and onednn.setting() != "off":
        found[onednn.VARIABLE] = onednn.setting()  # other bits by the same code
    return dict(sorted(found.items()))


def changed(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Returns the names of the modules that differ between two results of `modules`.

    >>> changed({"a": "1", "b": "2"}, {"a": "1", "b": "3", "c": "4"})
    ['b', 'c']
    """
    names = {*before, *now}
    return sorted(name for name in names if before.get(name) != now.get(name))


def _sources(things) -> Iterator[Source]:
    """Yields the modules that define some objects and what these contain."""
    waiting, seen = [*things], set()
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, functools.partial):
            waiting += [thing.func, *thing.args, *thing.keywords.values()]
        elif inspect.ismethod(thing):
            waiting += [thing.__func__, thing.__self__]
        elif hasattr(thing, "__wrapped__"):
            waiting.append(thing.__wrapped__)
        elif inspect.isfunction(thing) or inspect.isclass(thing):
            waiting += _held(thing)
            yield from _defining(thing, waiting)
        elif isinstance(thing, list | tuple):
            waiting += thing
        elif isinstance(thing, Mapping):
            waiting += thing.values()
        else:
            fields = (
                dataclasses.fields(thing) if dataclasses.is_dataclass(thing) else ()
            )
            waiting += [getattr(thing, field.name, None) for field in fields]
            waiting.append(type(thing))


def _held(thing) -> list:
    """Returns the values of a closure's variables."""
    cells = getattr(thing, "__closure__", None) or ()
    return [cell.cell_contents for cell in cells if cell != types.CellType()]


def _defining(thing, waiting: list) -> Iterator[Source]:
    """Yields the module that defines a function or class, if it is hashed."""
    name = thing.__module__
    module = sys.modules.get(name)
    file = getattr(module, "__file__", None)
    if file is not None and not Path(file).is_file():
        file = None  # a script from standard input
    if name == "__main__":  # python -m experiments.sgdr, or python mine.py
        spec = getattr(module, "__spec__", None)
        name = spec.name if spec else Path(file).stem if file else name
    if file is not None:
        if not places.installed(name, Path(file)) and not places.shows(name):
            yield _read_file(name, Path(file))
    elif name == "__main__":
        yield _in_notebook(thing, waiting)


def _in_notebook(thing, waiting: list) -> Source:
    """Reads a function or class that a notebook, a prompt or standard input defines.

    Its digest covers outside values too: defaults, and the globals it uses that are
    numbers, text or collections of these.
    """
    name = f"__main__.{thing.__qualname__}"
    names = vars(sys.modules["__main__"]) | getattr(thing, "__globals__", {})
    methods = vars(thing).values() if inspect.isclass(thing) else [thing]
    functions = [f for f in map(inspect.unwrap, methods) if inspect.isfunction(f)]
    outside: list[Any] = [(f.__defaults__, f.__kwdefaults__) for f in functions]
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(thing)))
        used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    except (OSError, TypeError, SyntaxError):  # typed at a prompt
        codes = [code for f in functions for code in _codes(f.__code__)]
        tree = ast.Module([], [])
        used = {used for code in codes for used in code.co_names}
        outside += [(code.co_code, code.co_names, code.co_consts) for code in codes]
    values = {key: names[key] for key in sorted(used & {*names})}
    imported = {k: v.__name__ for k, v in values.items() if inspect.ismodule(v)}
    waiting += [v for k, v in values.items() if k not in imported and callable(v)]
    source = syntax.read(name, tree, False, imported)
    words = f"{source.digest} {_plain(outside)} {_plain(values)}"
    digest = hashlib.sha256(words.encode("utf-8", "surrogatepass")).hexdigest()
    return dataclasses.replace(source, digest=digest)


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """Yields the code of a function and of those defined in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


def _plain(value: Any) -> str:
    """Formats numbers, text and collections of these; "" for any other value."""
    if isinstance(value, Mapping):
        return str([(key, _plain(item)) for key, item in value.items()])
    if isinstance(value, frozenset):
        return str(sorted(map(_plain, value)))
    if isinstance(value, list | tuple):
        return str([_plain(item) for item in value])
    plain = bool | int | float | complex | str | bytes | np.generic | type(None)
    return repr(value) if isinstance(value, plain) else ""


def _resolve(path: str) -> str | None:
    """Returns the module that defines "module:attribute.attribute", if it is hashed."""
    name, _, chain = path.partition(":")
    for part in filter(None, chain.split(".")):
        source = _of_module(name)
        if source is not None and not source.is_package:
            break
        target = None if source is None else source.imported.get(part)
        rest = chain.partition(f"{part}.")[2]
        if target is not None and target != f"{name}:{part}":
            return _resolve(syntax.join(target, rest))
        if places.file(f"{name}.{part}") is None:
            break
        name, chain = f"{name}.{part}", rest
    return name if places.file(name) else None


def _of_module(name: str) -> Source | None:
    file = places.file(name)
    return None if file is None or file.is_dir() else _read_file(name, file)


def _read_file(name: str, file: Path) -> Source:
    stat = file.stat()
    return _cached(name, file, stat.st_mtime_ns, stat.st_size)


@functools.cache
def _cached(name, file, _time, _size) -> Source:
    tree = ast.parse(file.read_bytes(), str(file))
    return syntax.read(name, tree, file.name == "__init__.py", {})
