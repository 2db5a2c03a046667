"""Figures as files, `figures/NAME.json` in a run folder."""

import dataclasses
import json
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from kd_heuristics.plots.checks import FigureError
from kd_heuristics.plots.figure import Figure
from kd_heuristics.runs.descriptions import to_json
from kd_heuristics.runtime import files


def save(figure: Figure, folder: files.AnyPath, name: str) -> None:
    """Writes `folder/figures/NAME.json`, with exact numbers and NaN as null."""
    text = json.dumps(to_json(figure), allow_nan=False, ensure_ascii=False)
    target = files.path(folder) / "figures"
    files.make_folder(target)
    files.write_text(target / f"{name}.json", text + "\n")


def load(path: Any) -> Figure:
    """Reads a figure's file.

    Raises:
      FigureError: the file is damaged or holds no figure; the message says where.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise FigureError(f"{path.name} cannot be read: {error}") from error
    return _made(Figure, value, path.name)


def _made(hint: Any, value: Any, where: str) -> Any:
    """Converts JSON to a value of the type `hint`; `where` names it in errors."""
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _one_of(inside, value, where)
    if dataclasses.is_dataclass(hint):
        return _dataclass(hint, value, where)
    if origin is Sequence and isinstance(value, list):
        pairs = enumerate(value)
        return tuple(_made(inside[0], item, f"{where}[{i}]") for i, item in pairs)
    if origin is Literal and value in inside and isinstance(value, str | bool):
        return value
    if origin is Mapping and isinstance(value, dict):
        return {key: _made(inside[1], v, f"{where}.{key}") for key, v in value.items()}
    if hint is Any and isinstance(value, list):
        return value  # its dataclass makes the array, or raises
    # A number below 1e300 is neither infinite nor NaN.
    if hint is float and type(value) in (int, float) and abs(value) < 1e300:
        return float(value)
    if isinstance(hint, type) and type(value) is hint:
        return value
    raise FigureError(f"{where} is {str(value)[:40]!r}, which is of another type")


def _one_of(hints: Any, value: Any, where: str) -> Any:
    """Converts to the panel of the value's kind, else `None` or the widest type."""
    if types.NoneType in hints and value is None:
        return None
    if not all(map(dataclasses.is_dataclass, hints)):
        others = [hint for hint in hints if hint not in (types.NoneType, int)]
        return _made(others[0], value, where)
    kinds = {hint.kind: hint for hint in hints}
    kind = value.get("kind") if isinstance(value, dict) else None
    if not isinstance(kind, str) or kind not in kinds:
        raise FigureError(f"{where} is no panel; its kind must be one of {[*kinds]}")
    return _made(kinds[kind], value, where)


def _dataclass(hint: Any, value: Any, where: str) -> Any:
    """Returns a dataclass made of a stored dictionary of its fields."""
    if not isinstance(value, dict):
        raise FigureError(f"{where} is no {hint.__name__}")
    hints = typing.get_type_hints(hint)
    fields = {field.name: field.default for field in dataclasses.fields(hint)}
    required = {name for name, own in fields.items() if own is dataclasses.MISSING}
    unknown, missing = value.keys() - fields.keys(), required - value.keys()
    if unknown or missing:
        raise FigureError(
            f"{where} lacks {sorted(missing)} and has the unknown {sorted(unknown)}"
        )
    made = {key: _made(hints[key], v, f"{where}.{key}") for key, v in value.items()}
    try:
        return hint(**made)
    except FigureError as error:
        raise FigureError(f"{where}: {error}") from None
