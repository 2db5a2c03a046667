"""What all studies share: presets, command line, run folder."""

import contextlib
import dataclasses
import functools
import shlex
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import tyro

from experiments.common import distributed, progress
from experiments.common.figures import draw
from experiments.common.study import Study
from kd_heuristics import (
    checkpoints,
    code_identity,
    compilation,
    compile_cache,
    data,
    files,
    hosts,
    interrupts,
    nearest,
    parallel,
    runs,
    training,
)

# Failures that the message explains fully: a traceback would hide it.
EXPLAINED = (
    checkpoints.CheckpointError,
    data.MissingDatasetError,
    data.TargetsError,
    files.WriteError,
    hosts.HostError,
    runs.RunError,
    training.NonFiniteError,
)
CODE = "code.json"  # of the run folder: the code of its results
# Fields that a run may be gone on with otherwise; results then agree to rounding.
FREE = ("devices",)
USAGE, FAILED = 2, 1  # exit statuses, beside 0, 130 (SIGINT) and 143 (SIGTERM)


def run(
    study: Study,
    config: Any,
    workdir: files.AnyPath,
    on_other_code: runs.OnOtherCode = "refuse",
) -> Any:
    """Runs a study, or what is left of it, in a run folder; returns the folder.

    With several processes (`hosts.start`) all of them call it alike.

    Args:
      study: which one.
      config: of a preset, with all devices of all processes where there are several.
      workdir: the run folder; may be a "gs://" path.
      on_other_code: what happens to stages and checkpoints that other code made: see
        `runs.RunFolder`.

    Raises:
      RunError, CheckpointError, MissingDatasetError, NonFiniteError, WriteError: see
        their words.
      Interrupted: the process was asked to stop, inside `interrupts.handled`.
    """
    folder = runs.RunFolder(workdir, on_other_code)
    with folder.lock():
        _run(study, config, folder)
    return folder.path


def _run(study, config, folder):
    described = {
        **study.opening,
        "config": config,
        "claims": study.claims(config),
        "deviations": deviations(config, study.presets[study.paper_preset]),
        "strategies": parallel.strategies(),
    }
    folder.open(described, study.extendable, FREE)
    folder.remove("error.json")
    start = time.monotonic()
    entry = folder.begin()
    try:
        with compilation.counted() as count:
            with progress.shown(study.name) as bar:
                results, arrays = study.compute(config, folder, bar)
            results = results | {"numbers": numbers(config, folder)}
            folder.save_arrays("arrays.npz", arrays)
            folder.write_json(CODE, code_identity.modules(study.compute))
            folder.write_json("results.json", results)
            hosts.first(draw, study, folder.path)
    except Exception as error:
        # A full disk must not hide what went wrong. Of several processes one alone may
        # have come here.
        with contextlib.suppress(files.WriteError):
            if hosts.is_first():
                hosts.alone(folder.write_json, "error.json", describe(error))
        raise
    folder.end(entry, time.monotonic() - start, compilation=count.entry())
    if hosts.is_first():
        print(f"{study.name}: {count}")


def numbers(config: Any, folder: runs.RunFolder) -> dict[str, Any]:
    """What became infinite or NaN in a run, for its results.

    Returns: `on_nonfinite` of the config; `skipped_updates` and `first_nonfinite_step`
      of each training that has any, the second as a line of the metrics file has it.
    """
    skipped: dict[str, int] = {}
    first: dict[str, int] = {}
    lines = training.MetricsFile(folder.path / "metrics.jsonl", sinks=[]).read()
    for line in lines:
        stage = line["stage"]
        if line.get("skipped_updates"):
            skipped[stage] = skipped.get(stage, 0) + round(line["skipped_updates"])
        if any(value is None for value in line.values()):
            first.setdefault(stage, line["step"])
    return {
        "on_nonfinite": getattr(config, "on_nonfinite", "raise"),
        "skipped_updates": skipped,
        "first_nonfinite_step": first,
    }


def deviations(config: Any, paper: Any) -> dict[str, tuple[Any, Any]]:
    """The fields in which a config differs from the paper's: (this, the paper's)."""
    fields = [field.name for field in dataclasses.fields(config)]
    pairs = {name: (getattr(config, name), getattr(paper, name)) for name in fields}
    return {name: (a, b) for name, (a, b) in pairs.items() if a != b}


def describe(error: Exception) -> dict[str, str]:
    """An error for the report: its words, and its traceback where they may not do."""
    trace = "" if isinstance(error, EXPLAINED) else traceback.format_exc()
    return {"error": type(error).__name__, "message": str(error), "traceback": trace}


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
    workdir, config = files.path(parsed.workdir), parsed.config
    if getattr(parsed, "sweep", None) is not None:
        with usage_errors():
            distributed.check_alone(parsed.distributed)
        from experiments.common import sweep  # which runs studies itself

        root = workdir.with_name(f"{workdir.name}-sweep")
        make = functools.partial(sweep.of, study.name, config, root, on_other_code)
        with usage_errors(), explained_errors():
            compile_cache.use()
            sweep.command(make, parsed.sweep)
        return
    if parsed.distributed is not None:
        start(parsed.distributed)
        with usage_errors():
            config = distributed.on_all_devices(config)
    with explained_errors():
        compile_cache.use()
        folder = run(study, config, workdir, on_other_code)
        if hosts.is_first():
            print(f"results: {folder / 'results.json'}\nfigures: {folder / 'figures'}")


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
    """Turns a ValueError of a config into one line and exit status 2."""
    try:
        yield
    except ValueError as error:
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


def _arguments(study: Study, preset: str) -> type:
    config = study.presets[preset]
    config_type: Any = type(config)
    choices = " | ".join(study.presets)
    return dataclasses.make_dataclass(
        "Arguments",
        [
            (
                "preset",
                Annotated[str, tyro.conf.arg(help=f"{choices}")],
                preset,
            ),
            (
                "workdir",
                Annotated[
                    str, tyro.conf.arg(help="the run folder; may be gs://bucket/...")
                ],
                f"runs/{preset}/{study.name}",
            ),
            (
                "distributed",
                Annotated[str | None, tyro.conf.arg(help=distributed.HELP)],
                None,
            ),
            ("recompute", Recompute, False),
            ("accept_code", AcceptCode, False),
            *([_SWEEP] if study.has_sweep else []),
            (
                "config",
                Annotated[config_type, tyro.conf.arg(name="")],
                dataclasses.field(default=config),
            ),
        ],
        frozen=True,
    )


# Flags of every study and of `reproduce`.
Recompute = Annotated[
    tyro.conf.FlagCreatePairsOff[bool],
    tyro.conf.arg(help="compute anew what other code made in the run folder"),
]
AcceptCode = Annotated[
    tyro.conf.FlagCreatePairsOff[bool],
    tyro.conf.arg(help="use what other code made in the run folder; reports say so"),
]

# A comment above a field is no help: it is often of several fields, or on why.
_HELP = (tyro.conf.HelptextFromCommentsOff,)
_SWEEP = (
    "sweep",
    Annotated[
        str | None,
        tyro.conf.arg(help="instead of a run: list | INDEX | ray | gather"),
    ],
    None,
)
