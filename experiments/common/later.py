"""The config in a run folder, with the fields that came after the run."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.common import fields
from kd_heuristics.plots import FigureError
from kd_heuristics.runs import descriptions


class Stored(dict):
    """A run's config; what it lacks raises an error with the field and the commit."""

    def __init__(self, config: Mapping[str, Any], commit: str):
        super().__init__(config)
        self._commit = commit

    def __missing__(self, name: str):
        raise FigureError(
            f"a figure needs the field {name!r} of the config, which the run lacks: "
            f"commit {self._commit} wrote it, and the field, which came later, follows "
            "from others; draw the figures with that commit, or run the study anew"
        )


def completed(config: Mapping[str, Any], likes: Sequence[Any], commit: str) -> Stored:
    """Adds the fields that are newer than the run, with their defaults.

    A default does what the study did before it had the field. A field that follows from
    others has none: it stays absent, and an error names it if a figure needs it.

    Args:
      config: of a run, as config.json has it.
      likes: configs of its class, at least one, such as the study's presets.
      commit: that the run was made with.
    """
    found = Stored(config, commit)
    for field in dataclasses.fields(likes[0]):
        name = field.name
        if name in config:
            own = [getattr(like, name) for like in likes]
            found[name] = _inside(config[name], own, commit)
        elif _fixed(field, likes):
            found[name] = descriptions.to_json(_default(field))
    return found


def _inside(value: Any, likes: Sequence[Any], commit: str) -> Any:
    """Completes the configs in a field's value."""
    if isinstance(value, list):
        parts = [part for own in likes if isinstance(own, tuple) for part in own]
        return [_inside(own, parts, commit) for own in value]
    configs = [own for own in likes if dataclasses.is_dataclass(own)]
    inner = configs and isinstance(value, dict)
    return completed(value, configs, commit) if inner else value


def _default(field: dataclasses.Field) -> Any:
    """A field's default, also of a factory; MISSING without one."""
    factory = field.default_factory
    return field.default if factory is dataclasses.MISSING else factory()


def _fixed(field: dataclasses.Field, likes: Sequence[Any]) -> bool:
    """Whether a field's default is its value, whatever the other fields are."""
    name, default = field.name, _default(field)
    if default is dataclasses.MISSING:
        return False
    # Compared by repr: 1 and 1.0 are equal, but the second is a share.
    at_default = [own for own in likes if repr(getattr(own, name)) == repr(default)]
    if not at_default:
        return not any(name in fields.derived(own) for own in likes)
    values = (fields.derived(own).get(name, default) for own in at_default)
    return all(repr(value) == repr(default) for value in values)
