"""The numbers of a run of the warmup study, and the verdicts."""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.common import maps
from experiments.warmup.claims import claims, difference
from experiments.warmup.config import Config
from experiments.warmup.layers import in_fc, kernels, random_layers
from kd_heuristics.runs import judge_all, summary

Numbers = dict[str, np.ndarray]


def results(
    config: Config, arrays: Mapping[str, Any], seeds: list[int], params: Any
) -> dict[str, Any]:
    """The numbers of the study, each with its seeds and spread, and the verdicts.

    `params` are the initial ones of the first seed.
    """
    accuracy = {arm: arrays[f"{arm}/test_accuracy"] for arm in config.arms}
    early = config.warmup_epochs - 1
    numbers: dict[str, Numbers] = {
        "early accuracy": {arm: values[:, early] for arm, values in accuracy.items()},
        "final accuracy": {arm: values[:, -1] for arm, values in accuracy.items()},
        "FC similarity": _fc_similarities(config, arrays),
    }
    statistics = {}
    for name, values in numbers.items():
        statistics |= _differences(name, values)
    return {
        "seeds": seeds,
        "arms": {
            arm: {name: summary(values[arm]) for name, values in numbers.items()}
            for arm in config.arms
        },
        "frozen_at_random": _frozen_at_random(config, params),
        "similarities_by_measure": maps.by_measure(
            lambda kind: _differences(
                "FC similarity", _fc_similarities(config, arrays, kind)
            ),
            config.measure,
        ),
        "claims": judge_all(claims(config), statistics),
    }


def _fc_similarities(
    config: Config, arrays: Mapping[str, Any], kind: str = ""
) -> Numbers:
    """Mean similarity of FC layers before and after the warmup, by arm.

    `kind` is a suffix of the maps' names, as in `maps.by_measure`.
    """
    fc = [i for i, name in enumerate(arrays["layers"]) if name.endswith("_fc")]
    return {
        arm: np.diagonal(maps_of_arm, axis1=1, axis2=2)[:, fc].mean(1)
        for arm in config.arms
        for maps_of_arm in [arrays[f"{arm}/similarity{kind}"]]
    }


def _differences(name: str, values: Numbers) -> Numbers:
    """The differences of a number between all pairs of arms, [seeds] each."""
    return {
        difference(name, a, b): values[a] - values[b]
        for a, b in itertools.permutations(values, 2)
    }


def _frozen_at_random(config: Config, params: Any) -> dict[str, Any]:
    """The layers of the arm "freeze_random", and their size beside the FC stack's."""
    chosen = random_layers(params, config.first_seed)
    sizes = {layer: kernel.size for layer, kernel in kernels(params).items()}
    return {
        "layers": sorted(chosen),
        "parameters": {
            "fc": sum(size for layer, size in sizes.items() if in_fc(layer)),
            "random": sum(size for layer, size in sizes.items() if layer in chosen),
        },
    }
