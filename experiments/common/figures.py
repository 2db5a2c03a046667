"""A study's figures from its run folder."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from experiments.common import fields, later, own
from experiments.common.study import Study
from kd_heuristics import runs
from kd_heuristics.plots import Figure, FigureError, stored
from kd_heuristics.runs import descriptions
from kd_heuristics.runtime import files, nearest

_FREE = {"seeds", "first_seed", "looks", "devices"}  # the numbers of a seed stay
TIMING = "timing.json"  # measured times, which are no results: seeds do not fix them


class _Arrays(dict):
    """Arrays of a run; a missing name raises an error with the nearest one."""

    def __missing__(self, name):
        near = nearest.nearest(name, self)
        raise FigureError(
            f"a figure names the array {name!r}, which the run lacks; did you mean "
            f"{near!r}?"
        )


def draw(study: Study, path: files.AnyPath) -> None:
    """Writes and draws a study's figures; see `described` for errors."""
    from kd_heuristics.plots import draw as drawing  # loads matplotlib

    for name, figure in described(study, path).items():
        stored.save(figure, path, name)
        drawing.save(figure, path, name)


def described(study: Study, path: files.AnyPath) -> dict[str, Figure]:
    """Makes a study's figures from its run folder alone.

    Raises:
      RunError: a file of the folder is missing or damaged.
      ValueError: a figure names a missing field, array or claim, or cannot be drawn.
    """
    run = runs.RunFolder(path)
    description = run.read_json("config.json")
    presets = [*study.presets.values()]
    config = later.completed(description["config"], presets, _commit(run))
    arrays = _Arrays(run.load_arrays("arrays.npz"))
    results = run.read_json("results.json")
    if (run.path / TIMING).exists():
        results["timing"] = run.read_json(TIMING)
    made = study.figures(config, results, arrays)
    if description.get("own"):
        made = own.without_papers(made)
    if study.figure:
        nearest.choose(study.figure, made, f"figure of study {study.name!r}:")
    # Of a user's own, the description names every network.
    named = description.get("subject") if description.get("own") else None
    subject = named or study.subject.format_map(config)
    which = ", ".join(filter(None, (settings_of(study, config), subject)))
    count = config.get("seeds", 1)
    seeds = "1 seed" if count == 1 else f"{count} seeds: mean and range"
    found = {}
    for place, (name, figure) in enumerate(made.items()):
        study.check_keys(figure.claims, f"figure {name!r} of study {study.name!r}")
        words = figure.subtitle.format(run=which, seeds=seeds)
        found[name] = dataclasses.replace(figure, subtitle=words, place=place)
    return found


def settings_of(study: Study, config: Mapping[str, Any]) -> str:
    """Returns "digits preset" for its config, apart from seeds; "own settings" else.

    A field of the preset that the run lacks came later.
    """
    for name, preset in study.presets.items():
        given = descriptions.to_json(vars(fields.resolved(preset)))
        compared = {*given} & {*config} - _FREE
        if all(config[key] == given[key] for key in compared):
            return f"{name} preset"
    return "own settings"


def _commit(run: runs.RunFolder) -> str:
    """Returns the commit that a run was made with, as far as it is recorded."""
    try:
        return run.read_json("environment.json")["invocations"][-1]["git_commit"] or "?"
    except (runs.RunError, LookupError, TypeError):
        return "?"
