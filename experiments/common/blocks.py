"""A study's seeds in blocks, one up to each declared look.

A block is a run of its own, in `seeds/FIRST-LAST` of the study's run folder: a kill
spoils none that is finished, and more seeds leave the earlier ones alone. The study's
folder holds what the blocks hold together. Within a block networks of the next seed are
the nulls, and one teacher or one layout may serve all seeds, so that a seed alone is no
unit; a block's numbers are the same whatever runs before or after it.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.common import fields, merging, records, running, said
from experiments.common import own as owned
from experiments.common.figures import TIMING, draw
from experiments.common.own import Own
from experiments.common.study import Study
from experiments.common.task import NOTHING
from kd_heuristics import runs
from kd_heuristics.runtime import files, hosts


def check(config: Any) -> None:
    """Raises ValueError if a number of seeds lies between two looks."""
    seeds, looks = getattr(config, "seeds", 1), getattr(config, "looks", ())
    if seeds == "auto" or not looks or seeds in looks:
        return
    if looks[0] < seeds < looks[-1]:
        raise ValueError(
            f"seeds must be a declared look ({', '.join(map(str, looks))}), fewer than "
            f"the first for a preview, more than the last, or auto; got {seeds}"
        )


def of(config: Any) -> list[Any]:
    """The configs of the blocks; [] if one run folder holds all seeds."""
    config, looks = fields.resolved(config), getattr(config, "looks", ())
    if not looks or config.seeds < looks[0] or (config.seeds,) == looks:
        return []
    edges = [0, *(look for look in looks if look < config.seeds), config.seeds]
    return [
        dataclasses.replace(config, first_seed=config.first_seed + a, seeds=b - a)
        for a, b in itertools.pairwise(edges)
    ]


def name(block: Any) -> str:
    """The name of a block's folder: "0-3" of four seeds."""
    return f"{block.first_seed}-{block.first_seed + block.seeds - 1}"


# It takes what `running.run` takes, in whose place it is called.
def run(
    study: Study,
    config: Any,
    workdir: files.AnyPath,
    on_other_code: runs.OnOtherCode = "refuse",
    own: Own = NOTHING,
) -> Any:
    """Runs a study's seeds, or what is left of them; returns the run folder.

    With seeds="auto" it stops at the first look that decides every main claim.

    Args and errors: see `running.run`.
    """
    check(config)
    parts = of(config)
    if not parts:
        return running.run(study, config, workdir, on_other_code, own)
    auto, config = config.seeds == "auto", fields.resolved(config)
    running.check(study, config, own)
    folder = runs.RunFolder(workdir, on_other_code)
    with folder.lock():
        held = _held(folder)
        if not auto and config.seeds < held:
            raise runs.RunError(
                f"{folder.path} holds {held} seeds; give --seeds {held} or more, or "
                "choose another folder with --workdir"
            )
        _open(study, config, folder, held or parts[0].seeds, own)
        for count, part in enumerate(parts, 1):
            _finish(study, part, folder, on_other_code, own)
            whole = dataclasses.replace(
                config, seeds=sum(part.seeds for part in parts[:count])
            )
            if whole.seeds < held:
                continue
            judged = _merge(study, whole, folder, parts[:count], own)
            if hosts.is_first():
                said.verdicts(f"{study.name}, {whole.seeds} seeds", judged)
            if auto and decided(judged):
                break
    return folder.path


def decided(judged: Sequence[Mapping[str, Any]]) -> bool:
    """Whether every main claim has a verdict."""
    return all(c["verdict"] != "inconclusive" for c in judged if c["main"])


def _held(folder: runs.RunFolder) -> int:
    """The number of seeds that a study's folder holds, 0 without any."""
    if not hosts.first((folder.path / "config.json").exists):
        return 0
    return folder.read_json("config.json")["config"].get("seeds", 0)


def _open(study, config, folder, seeds, own) -> dict[str, Any]:
    """Opens a study's folder for so many seeds; returns what is the user's."""
    whole = dataclasses.replace(config, seeds=seeds)
    users = owned.described(whole, own)
    described = running.describe_run(study, whole, users)
    folder.open(described, (*study.extendable, "seeds"), running.FREE)
    return users


def _path(folder: runs.RunFolder, part: Any) -> Any:
    return folder.path / "seeds" / name(part)


def _finish(study, part, folder, on_other_code, own) -> None:
    """Runs a block, unless it is finished."""
    described = running.describe_run(study, part, owned.described(part, own))
    block, code = runs.RunFolder(_path(folder, part)), running.code(study, part, own)
    if hosts.first(records.finished, block, described, code):
        return
    try:
        running.run(study, part, block.path, on_other_code, own, draws=False)
    except Exception as error:
        running.record(folder, error)
        raise


def _merge(study, whole, folder, parts, own) -> list[dict[str, Any]]:
    """Writes what the blocks hold together; returns the judged claims."""
    blocks = [runs.RunFolder(_path(folder, part)) for part in parts]
    users = _open(study, whole, folder, whole.seeds, own)
    folder.remove("error.json")
    counts = [part.seeds for part in parts]
    arrays = [block.load_arrays("arrays.npz") for block in blocks]
    folder.save_arrays("arrays.npz", merging.arrays(arrays, counts, study.shared))
    found = [block.read_json("results.json") for block in blocks]
    seeds = [
        seed
        for block, part in zip(blocks, parts, strict=True)
        for seed in map(block.read_json, map(records.name, records.seeds_of(part)))
    ]
    results = merging.results(
        [own | {"claims": []} for own in found], [name(part) for part in parts]
    )
    results |= running.judged(study, whole, seeds, users)
    folder.write_json(records.CODE, blocks[-1].read_json(records.CODE))
    entries = [block.read_json("environment.json") for block in blocks]
    merged = {
        "resumes": sum(entry["resumes"] for entry in entries),
        "invocations": [one for entry in entries for one in entry["invocations"]],
    }
    folder.write_json("environment.json", merged)
    folder.write_json("results.json", results)
    if hosts.first((blocks[0].path / TIMING).exists):
        folder.write_json(TIMING, blocks[0].read_json(TIMING))
    hosts.first(draw, study, folder.path)
    return results["claims"]
