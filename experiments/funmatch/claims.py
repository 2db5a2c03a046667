"""The paper's claims about patience and consistency, each a number to contradict."""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.common import fidelity, paper
from experiments.funmatch.comparisons import Comparison, comparisons
from experiments.funmatch.config import Config, name
from kd_heuristics.runs import Claim

DISTANCE = 0.02  # smallest difference of distances that counts, in nats
TEACHER = 1.0  # points below the teacher that still count as reaching it


def claims(config: Config) -> tuple[Claim, ...]:
    """The claims of the arms and lengths that run."""
    found = [
        Claim(
            key=its.key,
            words=its.words,
            kind=its.kind,
            smallest_effect=_effect(config, its),
            unit="nats" if its.distance else "points of test accuracy",
            paper=its.paper,
            main=its.main,
            trainings=_trainings(its),
        )
        for its in comparisons(config)
    ]
    for arm, other in faithful(config):
        words = "FunMatch's student decides more like its teacher than a fixed one's"
        longest = config.settings[-1].epochs
        trainings = name(arm, longest), name(other, longest)
        found += fidelity.claims(arm, other, words, trainings)
    return tuple(found)


def faithful(config: Config) -> list[tuple[str, str]]:
    """FunMatch's arm and that of a fixed teacher, if both are trained for longest."""
    pair = "mix", "fix/cc"
    if config.streamed or not {*pair} <= {*config.arms}:
        return []  # streamed training images are not held
    ends = {config.plan(arm)[-1][0].epochs for arm in pair}
    return [pair] if ends == {config.settings[-1].epochs} else []


def of_longest(arms: Mapping[str, Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """The numbers of fidelity of each arm at its longest training, [seeds].

    Args:
      arms: of the results: summaries by arm and length.
    """
    names = {"divergence": "kl"}
    found = {}
    for arm, lengths in arms.items():
        own = lengths[max(lengths, key=int)]
        for split, number in itertools.product(fidelity.SETS, fidelity.NUMBERS):
            values = own.get(f"{split}_{names.get(number, number)}")
            if values is not None:
                key = fidelity.key(arm, split, number)
                found[key] = np.array(values["values"], float)
    return found


def _trainings(its: Comparison) -> tuple[str, ...]:
    """The students that must not fail; a shorter training may."""
    longest = max(who[1] for who in (its.first, its.second) if who is not None)
    compared = filter(None, (its.first, its.second))
    return tuple(name(*who) for who in compared if who[1] == longest)


def _effect(config: Config, its: Comparison) -> float:
    """The smallest effect of a comparison that counts."""
    if its.distance:
        return DISTANCE
    if its.second is None:
        return TEACHER
    own = 100 * config.smallest_effect
    return paper.smallest_effect(own, its.paper) if its.kind == "difference" else own


def statistics(
    config: Config,
    arrays: Mapping[str, np.ndarray],
    teacher_accuracy: float,
) -> dict[str, np.ndarray]:
    """The statistic of each claim, [seeds].

    Args:
      config: of the study.
      arrays: with the last test metrics of each stage, [seeds].
      teacher_accuracy: on the test set, in [0, 1].
    """
    found = {}
    for its in comparisons(config):
        metric = "test_kl" if its.distance else "test_accuracy"
        first, second = (
            np.full(1, teacher_accuracy)
            if who is None
            else arrays[f"{name(*who)}/{metric}"]
            for who in (its.first, its.second)
        )
        if its.second is not None:  # some arms have one seed alone
            count = min(len(first), len(second))
            first, second = first[:count], second[:count]
        found[its.key] = second - first if its.distance else 100 * (first - second)
    return found
