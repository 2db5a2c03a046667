"""The command line of all studies: presets, fields, flags, exit statuses."""

import contextlib
import dataclasses
import functools
import re
import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import tyro

from experiments.common import blocks, distributed, fields, own, plan, sweep
from experiments.common.blocks import run
from experiments.common.running import EXPLAINED, FAILED, USAGE
from experiments.common.study import Study
from experiments.common.task import NOTHING
from kd_heuristics import data, runs
from kd_heuristics.runtime import (
    compile_cache,
    files,
    hosts,
    interrupts,
    nearest,
    onednn,
    pipes,
)


@pipes.unread_ends_quietly()
def main(study: Study) -> None:
    """The command line of a study.

    Exits with 0, 1 (failed), 2 (wrong usage), 130 (SIGINT) or 143 (SIGTERM).
    """
    preset, rest = _preset(sys.argv[1:], study.presets)
    arguments = _arguments(study, preset)
    with usage_errors():
        prog = f"python -m experiments.{study.name}"
        parsed = tyro.cli(arguments, prog=prog, args=rest, config=_HELP)
        on_other_code = rule(parsed.recompute, parsed.accept_code)
        onednn.asked()  # refuses another word
        own.check(study, parsed.config, NOTHING)
        study.plan(fields.resolved(parsed.config))  # refuses lengths that do not fit
        blocks.check(parsed.config)
        folder_name = run_name(study, parsed.name)
    config = parsed.config
    workdir = files.path(parsed.workdir or f"runs/{preset}/{folder_name}")
    word = getattr(parsed, "sweep", None)
    root = workdir.with_name(f"{workdir.name}-sweep")
    make = functools.partial(sweep.of, study, config, root, on_other_code)
    if parsed.plan or parsed.plan_measure:
        title = f"{study.name} {preset}"
        with usage_errors():
            if word is not None:
                title, config = f"{title}, job {word}", sweep.planned(make, word)
            show_plan(study, title, config, parsed.plan_measure)
            study.needs(config)
        return
    if word is not None:
        with usage_errors():
            distributed.check_alone(parsed.distributed)
        with usage_errors(), explained_errors():
            compile_cache.use()
            sweep.command(make, word)
        return
    with usage_errors():
        study.needs(config)
    if parsed.distributed is not None:
        start(parsed.distributed)
        with usage_errors():
            config = distributed.on_all_devices(config)
    with explained_errors():
        compile_cache.use()
        folder = run(study, config, workdir, on_other_code)
        if hosts.is_first():
            print(f"results: {folder / 'results.json'}\nfigures: {folder / 'figures'}")


def run_name(study: Study, name: str | None) -> str:
    """The run folder's name: the study's, or STUDY-NAME for a variant's.

    Raises:
      ValueError: the name is no part of a folder's name.
    """
    if name is None:
        return study.name
    if not re.fullmatch(r"[\w.+-]+", name):
        raise ValueError(
            f"--name must hold letters, digits and . _ + - only, got {name!r}; for a "
            "folder elsewhere give --workdir"
        )
    return f"{study.name}-{name}"


def show_plan(study: Study, title: str, config: Any, measure: bool = False) -> None:
    """Prints what a run would train; with `measure` its hours, from measured steps."""
    found = study.plan(fields.resolved(config))
    plan.show(title, found, plan.measure(found) if measure else None)


def rule(recompute: bool, accept_code: bool) -> runs.OnOtherCode:
    """What the flags --recompute and --accept-code say of results of other code.

    Raises:
      ValueError: both are given.

    >>> rule(recompute=True, accept_code=False)
    'recompute'
    """
    if recompute and accept_code:
        raise ValueError(
            "--recompute and --accept-code exclude each other; give one of them"
        )
    return "recompute" if recompute else "accept" if accept_code else "refuse"


def start(where: str) -> None:
    """`hosts.start` of a command line: exits with 2 or 1 where it fails."""
    try:
        with usage_errors():
            hosts.start(where)
    except hosts.HostError as error:
        fail(error, FAILED)


@contextlib.contextmanager
def usage_errors() -> Iterator[None]:
    """Turns a ValueError of a config, or missing data, into one line and status 2."""
    try:
        yield
    except (ValueError, data.MissingDatasetError) as error:
        fail(error, USAGE)


@contextlib.contextmanager
def explained_errors() -> Iterator[None]:
    """Turns a failure that explains itself into its message and exit status 1.

    SIGINT and SIGTERM inside end in one line on how to go on, and 130 or 143.
    """
    try:
        with interrupts.handled():
            yield
    except EXPLAINED as error:
        fail(error, FAILED)
    except interrupts.Interrupted as stop:
        again = shlex.join([Path(sys.executable).name, *sys.orig_argv[1:]])
        print(f"{stop}; nothing is lost. To go on: {again}", file=sys.stderr)
        raise SystemExit(stop.status) from None


def fail(error: Exception, status: int) -> None:
    """Prints the error's words and exits."""
    print(f"error: {error}", file=sys.stderr)
    raise SystemExit(status)


def _preset(arguments: list[str], presets: Mapping[str, Any]) -> tuple[str, list[str]]:
    """Takes --preset out of the arguments; the rest is parsed with its defaults."""
    rest, name = [], "demo"
    words = iter(arguments)
    for word in words:
        if word == "--preset":
            name = next(words, "")
        elif word.startswith("--preset="):
            name = word.removeprefix("--preset=")
        else:
            rest.append(word)
    with usage_errors():
        nearest.choose(name, tuple(presets), "preset")
    return name, rest


def _flag(kind: Any, words: str) -> Any:
    return Annotated[kind, tyro.conf.arg(help=words)]


def _arguments(study: Study, preset: str) -> type:
    config = study.presets[preset]
    kind: Any = type(config)
    runs_in = f"runs/{preset}/{study.name}"
    workdir = _flag(
        str | None,
        f"the run folder, {runs_in} or {runs_in}-NAME by default; may be gs://bucket/...",
    )
    variant = _flag(str | None, "name of a variant, which ends its run folder's name")
    sweeps = _flag(str | None, "instead of a run: list | INDEX | ray | gather")
    flags = [
        ("preset", _flag(str, " | ".join(study.presets)), preset),
        ("workdir", workdir, None),
        ("name", variant, None),
        ("distributed", _flag(str | None, distributed.HELP), None),
        ("plan", Plan, False),
        ("plan_measure", PlanMeasure, False),
        ("recompute", Recompute, False),
        ("accept_code", AcceptCode, False),
        *([("sweep", sweeps, None)] if study.jobs else []),
        ("config", Annotated[kind, tyro.conf.arg(name="")], config),
    ]
    return dataclasses.make_dataclass("Arguments", flags, frozen=True)


# Flags of every study and of `reproduce`.
_Switch = tyro.conf.FlagCreatePairsOff[bool]
Recompute = _flag(_Switch, "compute anew what other code made in the run folder")
AcceptCode = _flag(
    _Switch, "use what other code made in the run folder; reports say so"
)

Plan = _flag(_Switch, "print sets, networks, steps, memory and disk; train nothing")
PlanMeasure = _flag(
    _Switch, "print the plan with hours, from a measured step of each kind"
)

# A comment above a field is no help: it is often of several fields, or on why.
_HELP = (tyro.conf.HelptextFromCommentsOff,)
