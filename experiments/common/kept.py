"""Numbers of finished seeds kept in the repository, and their verdicts.

    runs/sgdr-digits/run.json     what all seeds of a study's preset share: config,
                                  code, declared claims
    runs/sgdr-digits/seed0.json   a seed, see `records`
    runs/sgdr-digits/note.txt      what a reader must know of the seeds, if anything
    sgdr-digits.json              the seeds together: verdicts and accuracies

Seeds of another config, code or rule are never mixed: they are refused in words.
"""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.common import blocks, fields, judging, records, running
from experiments.common.study import Study
from kd_heuristics import runs
from kd_heuristics.runs import Claim, code_identity, descriptions
from kd_heuristics.runtime import files, onednn

_SHARED = ("config", "code", "claims", "rules")  # digests that must agree


def collect(run: Path, target: Path) -> list[int]:
    """Copies the finished seeds of a study's run folder; returns their numbers.

    Args:
      run: the run folder, of one block or of several.
      target: the folder of the study's preset, "docs/results/runs/sgdr-digits".

    Raises:
      RunError: seeds differ in config, code or claims from those that are kept.
    """
    found = []
    for path in [run, *sorted(run.glob("seeds/*"))]:
        for file in sorted(path.glob("seed*.json")):
            seed = json.loads(file.read_text(encoding="utf-8"))
            shared = _shared(runs.RunFolder(path))
            if (target / "run.json").exists():
                _refuse_others(file, seed, shared, target)
            else:
                write(target / "run.json", {k: seed[k] for k in _DIGESTS} | shared)
            write(target / file.name, seed)
            found.append(seed["seed"])
    return sorted(found)


_DIGESTS = ("study", "rules")


def _shared(folder: runs.RunFolder) -> dict[str, Any]:
    """What the seeds of a run folder share, in full."""
    described = folder.read_json("config.json")
    code = folder.read_json(records.CODE)
    return {
        "config": records.of_a_seed(described),
        "claims": described["claims"],
        "code": {module: digest[:12] for module, digest in code.items()},
    }


def _refuse_others(file, seed, shared, target) -> None:
    """Raises RunError if a seed is of another config, code or rule than those kept."""
    kept = json.loads((target / "run.json").read_text(encoding="utf-8"))
    differences = [
        f"{key}: {before!r} there, {now!r} here"
        for part in ("config", "code")
        for key, before, now in descriptions.differences(kept[part], shared[part], part)
    ]
    rules = [descriptions.identity({"claims": own["claims"]}) for own in (kept, shared)]
    differences += [
        f"{key}: {before!r} there, {now!r} here"
        for key, before, now in descriptions.differences(*rules)
    ]
    if kept["rules"] != seed["rules"]:
        differences.append(f"rules: {kept['rules']} there, {seed['rules']} here")
    if differences:
        lines = "\n".join(f"  {line}" for line in differences[:12])
        raise runs.RunError(
            f"{file} is of another run than the seeds kept in {target}:\n{lines}\n"
            f"remove {target} to keep this run in their place"
        )


def judged(study: Study, preset: str, folder: Path) -> dict[str, Any]:
    """The kept seeds of a study's preset together, for `docs/results`.

    Raises:
      RunError: a seed's file does not belong to run.json.
    """
    kept = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    seeds = [
        json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(folder.glob("seed*.json"))
    ]
    seeds.sort(key=lambda own: own["seed"])
    for own in seeds:
        for part in ("config", "claims", "code"):
            if own[part] != seeds[0][part]:
                raise runs.RunError(
                    f"{folder / records.name(own['seed'])} has another {part} than "
                    f"{records.name(seeds[0]['seed'])}; remove one of them"
                )
    claims = tuple(Claim(**own) for own in kept["claims"])
    looks = tuple(kept["config"]["looks"])
    config = fields.resolved(study.presets[preset])
    first = config.first_seed
    there = [own["seed"] for own in seeds]
    # What comes after a missing seed waits for it: looks are of the first seeds.
    counted = [own for place, own in enumerate(seeds) if own["seed"] == first + place]
    below = judging.threshold(kept["config"])
    verdicts = judging.judge(claims, looks, counted, below)
    wanted = _wanted(verdicts, looks)
    now = running.describe_run(study, config, {})
    note = folder / "note.txt"
    declared, present = _rules(kept["claims"]), _rules(now["claims"])
    return {
        "study": study.name,
        "preset": preset,
        "subject": study.subject.format_map(kept["config"]),
        "note": note.read_text(encoding="utf-8").strip() if note.exists() else "",
        "seeds": there,
        "counted": [own["seed"] for own in counted],
        "missing": sorted({*range(first, first + wanted)} - {*there}),
        "later": [seed for seed in there if seed >= first + looks[-1]],
        "looks": looks,
        "rules": kept["rules"],
        "commits": sorted({own["git_commit"] or "unknown" for own in seeds}),
        "accepted_code": sorted(
            {
                module
                for own in seeds
                for modules in (own.get("accepted_code") or {}).values()
                for module in modules
            }
        ),
        "hardware": seeds[-1]["hardware"],
        "minutes": _minutes(seeds, "block_seconds"),
        "cpu_minutes": _minutes(seeds, "block_cpu_seconds"),
        "config_differs": _config_differs(kept["config"], now, study.presets[preset]),
        "rules_differ": [k for k, rule in declared.items() if rule != present.get(k)],
        "declared_since": sorted({*present} - {*declared}),
        "code_differs": _code_differs(kept["code"], running.code(study, config)),
        "claims": verdicts,
        "failures": judging.failures(seeds, below),
        "accuracies": _accuracies(counted),
    }


def _wanted(verdicts: Sequence[Mapping[str, Any]], looks: Sequence[int]) -> int:
    """The seeds up to the look that decided all main claims, or to the last look."""
    main = [claim for claim in verdicts if claim["main"]]
    if main and blocks.decided(main):
        return max(claim["look"] for claim in main)
    return looks[-1]


def _minutes(seeds, key: str) -> float:
    """The sum over blocks, in minutes."""
    by_block = {tuple(own["block"]): own[key] for own in seeds}
    return round(math.fsum(by_block.values()) / 60, 1)


def _config_differs(
    kept: Mapping[str, Any], now: Mapping[str, Any], preset: Any
) -> dict[str, Any]:
    """Fields in which the kept run differs from the preset, `{field: [run's, now]}`.

    A field that came later differs only if the preset gives it another value than its
    default, which is what was done before it came, or what then follows from others.
    """
    present = records.of_a_seed(descriptions.to_json(now))
    for field in dataclasses.fields(preset):
        if field.name not in kept and getattr(preset, field.name) == field.default:
            present.pop(field.name, None)
    found = descriptions.differences(kept, present)
    return {key: [before, after] for key, before, after in found if key != "strategies"}


def _rules(claims: Any) -> dict[str, Any]:
    """The rule of each claim, by its key."""
    return {
        claim["key"]: descriptions.identity({"claims": [claim]})
        for claim in descriptions.to_json(claims)
    }


def _code_differs(kept: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Modules that have changed since the run; oneDNN's setting is the machine's."""
    short = {module: digest[:12] for module, digest in now.items()}
    modules = code_identity.changed(kept, short)
    return [module for module in modules if module != onednn.VARIABLE]


def _accuracies(seeds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Summaries of the accuracies that all seeds have, by their path in the results."""
    found = [own["accuracies"] for own in seeds]
    paths = [p for own in found[:1] for p in own if all(p in other for other in found)]
    return {
        path: runs.summary(
            [
                math.nan if own["accuracies"][path] is None else own["accuracies"][path]
                for own in seeds
            ]
        )
        for path in paths
    }


def write(path: Path, value: Any) -> None:
    """Writes JSON, with its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(descriptions.to_json(value), indent=1, ensure_ascii=False)
    files.write_text(path, text + "\n")
