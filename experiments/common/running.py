"""Runs a study in its run folder."""

import contextlib
import time
import traceback
from typing import Any

from experiments.common import fields, progress, protocol
from experiments.common.figures import draw
from experiments.common.study import Study
from kd_heuristics import checkpoints, data, runs, training
from kd_heuristics.runs import code_identity
from kd_heuristics.runtime import compilation, files, hosts, parallel

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
      config: of a preset, with all devices of all processes where there are several;
        the study sees it, and config.json has it, with derived fields filled in.
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
        _run(study, fields.resolved(config), folder)
    return folder.path


def _run(study, config, folder):
    described = {
        **study.opening,
        "config": config,
        "claims": study.claims(config),
        **_beside_the_paper(study, config),
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
