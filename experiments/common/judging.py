"""Verdicts of a study from the numbers of its seeds.

A training failed if its final train accuracy is below chance + (1 - chance) / 10, or,
for a claim about an earlier time, its accuracy then. A seed counts as failed for a
claim if a training that the claim needs failed.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from kd_heuristics import data
from kd_heuristics.runs import Claim, judge_all, verdicts
from kd_heuristics.runtime import nearest

Seed = Mapping[str, Any]  # "seed", "statistics" and "trained", as in `records`


def threshold(config: Mapping[str, Any]) -> float | None:
    """The train accuracy below which a training failed; None without classes.

    chance + (1 - chance) / 10

    >>> round(threshold({"dataset": "digits_photo"}), 3)
    0.19
    """
    if "dataset" not in config:
        return None
    chance = 1 / data.describe(config["dataset"]).num_classes
    return chance + (1 - chance) / 10


def seeds_of(
    claims: Sequence[Claim],
    statistics: Mapping[str, Sequence[float | None]],
    trained: Mapping[str, Mapping[str, float | None]],
    seeds: Sequence[int],
) -> list[Seed]:
    """What a run's results, as JSON has them, say of each of its seeds.

    Args:
      claims: of the study.
      statistics: `{name: [seeds]}`; some have fewer, the first ones.
      trained: train accuracies, final or earlier, as in results.json.
      seeds: of the run.

    Raises:
      ValueError: a claim names an unknown statistic.
    """
    for claim in claims:
        what = f"statistic of claim {claim.key!r}:"
        nearest.choose(claim.source, statistics, what)
    values = {claim.key: statistics[claim.source] for claim in claims}
    return [
        {
            "seed": seed,
            "statistics": {k: v[place] for k, v in values.items() if place < len(v)},
            "trained": {
                name: by_seed[str(seed)]
                for name, by_seed in trained.items()
                if str(seed) in by_seed
            },
        }
        for place, seed in enumerate(seeds)
    ]


def judge(
    claims: Sequence[Claim],
    looks: Sequence[int],
    seeds: Sequence[Seed],
    below: float | None,
) -> list[dict[str, Any]]:
    """Judges claims on seeds in their order; `below` is the `threshold`.

    Raises: ValueError if a claim names a training that a seed does not have.
    """
    statistics: dict[str, list[float]] = {}
    failed: dict[str, list[bool]] = {}
    numbers: dict[str, list[int]] = {}
    for claim in claims:
        own = [seed for seed in seeds if claim.key in seed["statistics"]]
        numbers[claim.key] = [seed["seed"] for seed in own]
        values = [seed["statistics"][claim.key] for seed in own]
        values = [math.nan if value is None else value for value in values]
        statistics[claim.source] = values
        failed[claim.key] = [
            # Each is asked, so that an unknown one is found whatever failed before.
            sum(has_failed(seed, name, below) for name in claim.trainings) > 0
            for seed in own
        ]
    found = judge_all(claims, statistics, looks=looks, failed=failed)
    return [judged | {"seeds": numbers[judged["key"]]} for judged in found]


def has_failed(seed: Seed, training: str, below: float | None) -> bool:
    """Whether a training of a seed failed.

    Raises: ValueError if the seed has no training of that name.
    """
    if training not in seed["trained"]:
        raise ValueError(
            f"a claim needs the training {training!r}, but seed {seed['seed']} has "
            f"{', '.join(seed['trained']) or 'none'}; name trainings of the study"
        )
    accuracy = seed["trained"][training]
    if accuracy is None or math.isnan(accuracy):
        return True
    return below is not None and accuracy < below


def failures(seeds: Sequence[Seed], below: float | None) -> dict[str, Any]:
    """The failed seeds of each training, and their share with Wilson's interval."""
    found: dict[str, Any] = {}
    for training in dict.fromkeys(name for seed in seeds for name in seed["trained"]):
        own = [seed for seed in seeds if training in seed["trained"]]
        failed = [s["seed"] for s in own if has_failed(s, training, below)]
        if failed:
            found[training] = {
                "seeds": failed,
                "of": len(own),
                "share": len(failed) / len(own),
                "interval": verdicts.wilson(len(failed), len(own)),
            }
    return {"below": below, "trainings": found}
