"""What remains of each finished seed: a small JSON file, enough to judge it anew.

    seed3.json   in the run folder: each claim's statistic, final accuracies, hashes of
                 config, code and claims, the rules' version, hardware and time

`python -m experiments.results` collects these files; no checkpoint has to survive.
"""

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from kd_heuristics import runs, training
from kd_heuristics.report.tables import training_of
from kd_heuristics.runs import descriptions, verdicts

CODE = "code.json"  # of the run folder: the code of its results
# Fields that do not tell one seed from another run of the same seed.
_NOT_OF_A_SEED = ("seeds", "first_seed", "devices")
# The first that a training logs tells whether it failed.
_ACCURACIES = ("accuracy", "test_accuracy", "validation_accuracy")
_SHOWN = re.compile(r"accuracy|average|ensemble")


def name(seed: int) -> str:
    """The name of a seed's file.

    >>> name(3)
    'seed3.json'
    """
    return f"seed{seed}.json"


def trained(folder: runs.RunFolder) -> dict[str, dict[str, float | None]]:
    """The final train accuracy of each training, `{"sgdr": {"0": 0.98}, ...}`.

    A training without labels is known by its test or validation accuracy. Of several
    networks of one seed the worst counts. None stands for a value that is not finite.
    """
    last: dict[str, dict[str, Any]] = {}
    for line in training.MetricsFile(folder.path / "metrics.jsonl", sinks=[]).read():
        last[line["stage"]] = line
    found: dict[str, dict[str, float | None]] = {}
    for stage, line in last.items():
        which, seed, _ = training_of(stage)
        metric = next((key for key in _ACCURACIES if key in line), None)
        if seed is None or metric is None:
            continue
        own = found.setdefault(which, {})
        before, now = own.get(seed, 1.0), line[metric]
        own[seed] = None if before is None or now is None else min(before, now)
    return dict(sorted(found.items()))  # whatever was trained again, and when


def write(folder: runs.RunFolder, config: Any, results: Mapping[str, Any]) -> None:
    """Writes the files of a finished run's seeds."""
    seeds = seeds_of(config)
    described = folder.read_json("config.json")
    entries = folder.read_json("environment.json")["invocations"]
    results = descriptions.to_json(results)
    shared = {
        "study": described.get("study"),
        "block": seeds,
        "config": digest(of_a_seed(described)),
        "code": digest(folder.read_json(CODE)),
        "claims": digest(rules_of(described)),
        "rules": verdicts.VERSION,
        "git_commit": entries[-1].get("git_commit"),
        "started": entries[0]["started"],
        "hardware": {
            key: entries[-1].get(key) for key in ("backend", "devices", "cpu_cores")
        },
        "versions": entries[-1].get("versions"),
        # Of the whole block. What a kill cut off is not in them.
        "block_seconds": _total(entries, "seconds"),
        "block_cpu_seconds": _total(entries, "cpu_seconds"),
        "accepted_code": entries[-1].get("accepted_code"),
    }
    for place, seed in enumerate(seeds):
        own = {
            "seed": seed,
            "statistics": {
                claim["key"]: values[place]
                for claim in results.get("claims", ())
                for values in [[*claim["values"], *claim["later_values"]]]
                if place < len(values)
            },
            "trained": {
                stage: by_seed[str(seed)]
                for stage, by_seed in results.get("trained", {}).items()
                if str(seed) in by_seed
            },
            "accuracies": {
                path: values[place]
                for path, values in _summaries(results)
                if _SHOWN.search(path) and len(values) == len(seeds)
            },
        }
        folder.write_json(name(seed), own | shared)


def remove(folder: runs.RunFolder) -> None:
    """Deletes a folder's seed files, before its numbers may change."""
    for path in [*folder.path.glob("seed*.json")]:
        folder.remove(path.name)


def finished(
    folder: runs.RunFolder, described: Mapping[str, Any], code: Mapping[str, str]
) -> bool:
    """Whether a folder holds all seeds of a run, of this description and code."""
    described = descriptions.to_json(described)
    wanted = {
        "config": digest(of_a_seed(described)),
        "claims": digest(rules_of(described)),
        "code": digest(code),
    }
    for seed in range_of(described["config"]):
        if not (folder.path / name(seed)).exists():
            return False
        found = folder.read_json(name(seed))
        if any(found.get(key) != value for key, value in wanted.items()):
            return False
    return True


def seeds_of(config: Any) -> list[int]:
    """The seeds of a config."""
    return range_of({k: getattr(config, k, None) for k in ("seeds", "first_seed")})


def range_of(config: Mapping[str, Any]) -> list[int]:
    """The seeds of a config as JSON has it."""
    first = config.get("first_seed") or 0
    return [*range(first, first + (config.get("seeds") or 1))]


def of_a_seed(described: Mapping[str, Any]) -> dict[str, Any]:
    """What of config.json decides a seed's numbers, beside the code."""
    config = {k: v for k, v in described["config"].items() if k not in _NOT_OF_A_SEED}
    return {key: described.get(key) for key in ("own", "strategies")} | config


def rules_of(described: Mapping[str, Any]) -> Any:
    """The rules of the declared claims, by statistic, without words."""
    return descriptions.identity({"claims": described.get("claims", [])})


def digest(value: Any) -> str:
    """A short hash of what JSON can hold."""
    text = json.dumps(descriptions.to_json(value), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _total(entries, key: str) -> float:
    """The sum over a folder's invocations."""
    return round(math.fsum(entry.get(key) or 0 for entry in entries), 1)


def _summaries(found: Any, path: str = "") -> Iterator[tuple[str, list]]:
    """The values of each `runs.summary` in results, with its path."""
    if not isinstance(found, dict):
        return
    if {*found} == {"mean", "std", "values"}:
        yield path, found["values"]
        return
    for key, value in found.items():
        yield from _summaries(value, f"{path}/{key}" if path else key)
