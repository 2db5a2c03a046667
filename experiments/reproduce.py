"""Runs every study of one preset, then writes the report.

Command: python -m experiments.reproduce --preset demo | digits | fashion | lenses |
         cifar10 | smoke

Studies without the preset are left out: `lenses` is one of three of them, `fashion` of
five. If a study fails, the report shows its error, the other studies still run, and the
exit status is 1. The same command resumes an interrupted run.
"""

import dataclasses
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from experiments.common import blocks, distributed, fields, launch, plan
from experiments.common.study import Study
from experiments.distillation import study as distillation
from experiments.fsp import study as fsp
from experiments.funmatch import study as funmatch
from experiments.mode_connectivity import study as mode_connectivity
from experiments.sgdr import study as sgdr
from experiments.warmup import study as warmup
from kd_heuristics import report
from kd_heuristics.runtime import compile_cache, files, hosts, nearest, pipes

STUDIES = (
    sgdr.STUDY,
    mode_connectivity.STUDY,
    warmup.STUDY,
    distillation.STUDY,
    fsp.STUDY,
    funmatch.STUDY,
)

_DISTRIBUTED = distributed.HELP  # the field of that name hides the module


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arguments:
    """Runs every study of one preset, then writes one report."""

    preset: str = "demo"
    """smoke | demo | digits | fashion | fashion_full | lenses | cifar10"""
    workdir: str | Path = "runs"
    """folder for <preset>/<study>/ and <preset>/report.html; may be gs://bucket/..."""
    seeds: int | Literal["auto"] | None = None
    """number of seeds, or auto: to the first look that decides every main claim; None
    uses the preset's"""
    distributed: Annotated[str | None, tyro.conf.arg(help=_DISTRIBUTED)] = None
    plan: launch.Plan = False
    recompute: launch.Recompute = False
    accept_code: launch.AcceptCode = False


def run(arguments: Arguments) -> int:
    """Runs the studies; returns the number of failures."""
    root = files.path(arguments.workdir) / arguments.preset
    on_other_code = launch.rule(arguments.recompute, arguments.accept_code)
    failed, page = 0, None
    studies = having(arguments.preset)
    expected = [study.opening for study in studies]
    for study in studies:
        try:
            config = _config(study, arguments)
            if arguments.distributed is not None:
                config = distributed.on_all_devices(config)
            launch.run(study, config, root / study.name, on_other_code)
        except Exception as error:  # the other studies still run
            failed += 1
            print(f"{study.name} failed: {error}", file=sys.stderr)
        if hosts.first(lambda: any(root.glob("*/config.json"))):
            page = hosts.first(report.write, root, expected)
    page = page or hosts.first(report.write, root, expected)  # says what is missing
    if hosts.is_first():
        print(f"report: {page.resolve()}")
    return failed


def having(preset: str) -> list[Study]:
    """The studies that have a preset."""
    return [study for study in STUDIES if preset in study.presets]


def _config(study: Study, arguments: Arguments) -> Any:
    """A study's config of the preset, with the seeds that were asked for."""
    config = study.presets[arguments.preset]
    if arguments.seeds is None:
        return config
    return dataclasses.replace(config, seeds=arguments.seeds)


def show_plans(preset: str) -> None:
    """Prints each study's trainings for a preset, and one line for every preset."""
    for study in having(preset):
        launch.show_plan(study, f"{study.name} {preset}", study.presets[preset])
    plan.table_of_presets(
        [
            (f"{study.name} {name}", study.plan(fields.resolved(config)))
            for study in STUDIES
            for name, config in study.presets.items()
        ]
    )


@pipes.unread_ends_quietly()
def main() -> None:
    """Runs the command line."""
    with launch.usage_errors():
        arguments = tyro.cli(Arguments, prog="python -m experiments.reproduce")
        launch.rule(arguments.recompute, arguments.accept_code)
        nearest.choose(arguments.preset, tuple(STUDIES[0].presets), "preset")
        if arguments.seeds is not None:  # before the first study runs
            for study in having(arguments.preset):
                blocks.check(_config(study, arguments))
    if arguments.plan:
        show_plans(arguments.preset)
        return
    if arguments.distributed is not None:
        launch.start(arguments.distributed)
    with launch.explained_errors():
        compile_cache.use()
        raise SystemExit(min(run(arguments), 1))


if __name__ == "__main__":
    main()
