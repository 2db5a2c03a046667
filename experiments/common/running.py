"""Runs a study in its run folder."""

import contextlib
import time
import traceback
from collections.abc import Iterable, Mapping
from typing import Any

from experiments.common import (
    controls,
    fields,
    judging,
    merging,
    progress,
    protocol,
    records,
    said,
    task,
)
from experiments.common import own as owned
from experiments.common.figures import draw
from experiments.common.own import Own
from experiments.common.study import Study
from experiments.common.task import NOTHING
from kd_heuristics import checkpoints, data, runs, training
from kd_heuristics.runs import code_identity, descriptions
from kd_heuristics.runtime import (
    compilation,
    files,
    hosts,
    interrupts,
    nearest,
    parallel,
)

# Failures that the message explains fully: a traceback would hide it.
EXPLAINED = (
    checkpoints.CheckpointError,
    data.BadDataError,
    data.MissingDatasetError,
    data.TargetsError,
    files.WriteError,
    hosts.HostError,
    runs.RunError,
    training.NonFiniteError,
)
# Fields that a run may be gone on with otherwise; results then agree to rounding.
FREE = ("devices",)
USAGE, FAILED = 2, 1  # exit statuses, beside 0, 130 (SIGINT) and 143 (SIGTERM)


def run(
    study: Study,
    config: Any,
    workdir: files.AnyPath,
    on_other_code: runs.OnOtherCode = "refuse",
    own: Own = NOTHING,
    draws: bool = True,
) -> Any:
    """Runs a study, or what is left of it, in a run folder; returns the folder.

    With several processes (`hosts.start`) all of them call it alike.

    Args:
      study: which one.
      config: of a preset, with all devices of all processes where there are several;
        the study sees it, and config.json has it, with derived fields filled in.
      workdir: the run folder; may be a "gs://" path.
      on_other_code: what happens to stages and checkpoints that other code made: see
        `runs.RunFolder`.
      own: the user's network and images, in place of the config's; see `Own.of`.
      draws: whether to draw the figures.

    Raises:
      ValueError: the study takes nothing of the user's.
      RunError, CheckpointError, MissingDatasetError, NonFiniteError, WriteError: see
        their words.
      Interrupted: the process was asked to stop, inside `interrupts.handled`.
    """
    config = fields.resolved(config)
    users = check(study, config, own)
    folder = runs.RunFolder(workdir, on_other_code)
    with folder.lock():
        _run(study, config, folder, own, users, draws)
    return folder.path


def check(study: Study, config: Any, own: Own) -> dict[str, Any]:
    """Checks what a run needs, before a folder is made.

    Returns: what is the user's, see `own.described`.

    Raises:
      ValueError: files that the config names are missing, or the user's networks or
        images do not fit, or the study takes none.
      MissingDatasetError: a set of the config is not prepared.
    """
    owned.check(study, config, own)
    check_files(study, config, own)
    users = owned.described(config, own)
    if users:
        (study.own or task.make)(config, own)
    return users


def check_files(study: Study, config: Any, own: Own = NOTHING) -> None:
    """Checks that the files and sets of a resolved config are there.

    Raises: ValueError or MissingDatasetError that names the first that is not;
    ValueError if a claim needs a training that is not in the study's plan.
    """
    study.needs(config)
    if own.dataset is None:
        plan = study.plan(config)
        for name, _ in plan.sets:
            data.find(name)
        if plan.trainings:
            planned = sorted({*plan.stages, *plan.earlier})
            for claim in study.claims(config):
                for training in claim.trainings:
                    what = f"training of claim {claim.key!r}:"
                    nearest.choose(training, planned, what)


def _run(study, config, folder, own, users, draws):
    described = describe_run(study, config, users)
    inputs = {"own": own} if own.given else {}
    folder.open(described, study.extendable, FREE)
    folder.remove("error.json")
    hosts.first(records.remove, folder)
    start, cpu = time.monotonic(), time.process_time()
    entry = folder.begin()

    def end(**more):
        own = {"cpu_seconds": round(time.process_time() - cpu, 1)}
        folder.end(entry, time.monotonic() - start, **own, **more)

    try:
        with compilation.counted() as count:
            with progress.shown(study.name) as bar:
                results, arrays = study.compute(config, folder, bar, **inputs)
            statistics = results.pop("statistics", {})
            results["numbers"] = numbers(config, folder)
            # A study may add accuracies from where a claim is read.
            results["trained"] = records.trained(folder) | results.get("trained", {})
            if users:
                results.pop("paper", None)
            if statistics:
                seeds = judging.seeds_of(
                    study.claims(config),
                    descriptions.to_json(statistics),
                    results["trained"],
                    records.seeds_of(config),
                )
                results |= judged(study, config, seeds, users)
            if study.shared:
                merging.check(arrays, config.seeds, study.shared)
            folder.save_arrays("arrays.npz", arrays)
            folder.write_json(records.CODE, code(study, config, own))
            folder.write_json("results.json", results)
            if draws:
                hosts.first(draw, study, folder.path)
    except interrupts.Interrupted:
        end(finished=False)
        raise
    except Exception as error:
        record(folder, error)
        raise
    end(compilation=count.entry())
    hosts.first(records.write, folder, config, results)
    if hosts.is_first():
        print(f"{study.name}: {count}")
        if draws:
            said.verdicts(study.name, results.get("claims", []))


def judged(study: Study, config: Any, seeds: Any, users: Any) -> dict[str, Any]:
    """What results.json has of claims, failed trainings and seeds that came later."""
    below = None if users else judging.threshold(vars(config))
    looks = getattr(config, "looks", None) or (max(2, len(seeds)),)
    claims = judging.judge(study.claims(config), looks, seeds, below)
    return {
        "claims": without_papers(claims) if users else claims,
        "failures": judging.failures(seeds, below),
        "later_seeds": [seed["seed"] for seed in seeds[looks[-1] :]],
    }


def record(folder: runs.RunFolder, error: Exception) -> None:
    """Writes error.json, for the report."""
    # A full disk must not hide what went wrong. Of several processes one alone may have
    # come here.
    with contextlib.suppress(files.WriteError):
        if hosts.is_first():
            hosts.alone(folder.write_json, "error.json", describe(error))


def code(study: Study, config: Any, own: Own = NOTHING) -> dict[str, str]:
    """The code of a run's numbers, see `code_identity.modules`."""
    return code_identity.modules(study.compute, own, *owned.functions(config))


def _beside_the_paper(study: Study, config: Any) -> dict[str, Any]:
    """What config.json has of the paper's preset and values."""
    name = study.leans_on(config)
    preset = fields.resolved(study.presets[name])
    rows = protocol.table(config, study.protocol.get(name, {}), preset)
    return {
        "paper_preset": name,
        "deviations": protocol.deviations(config, preset),
        "protocol": [row for row in rows if row.status != protocol.OURS],
    }


def describe_run(study: Study, config: Any, users: Mapping[str, Any]) -> dict:
    """The contents of config.json.

    Args:
      study: which one.
      config: of the run.
      users: what is the user's, see `own.described`. The paper's numbers then do not
        stand beside the run's, and the page says whose network and images these are.
    """
    names = {part: its["name"] for part, its in users.items()}
    found = {
        **study.opening,
        "controls": controls.of(study.name),
        "config": config,
        "claims": study.claims(config),
        **_beside_the_paper(study, config),
        "strategies": parallel.strategies(),
    }
    found = descriptions.to_json(found)
    found["config"] |= names
    subject = study.subject.format_map(found["config"])
    if unnamed := [name for name in names.values() if name not in subject]:
        subject += f", with {' and '.join(unnamed)}"
    found["subject"] = subject
    if not users:
        return found
    found["paper"] = f"the question of {study.paper}, asked of your own: {subject}"
    found["claims"] = without_papers(found["claims"])
    return found | {"own": users}


def without_papers(claims: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Claims, as JSON, without the paper's numbers."""
    return [{**claim, "paper": None} for claim in claims]


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


def describe(error: Exception) -> dict[str, str]:
    """An error for the report: its words, and its traceback where they may not do."""
    trace = "" if isinstance(error, EXPLAINED) else traceback.format_exc()
    return {"error": type(error).__name__, "message": str(error), "traceback": trace}
