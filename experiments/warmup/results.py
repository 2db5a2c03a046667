"""The numbers of a run of the warmup study."""

import itertools
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from experiments.common import maps
from experiments.warmup.claims import conv_minus_fc, difference, early_training
from experiments.warmup.config import Config
from experiments.warmup.curvature import BLOCKS
from experiments.warmup.layers import layer_of, random_layers
from kd_heuristics.pytrees import leaf_names
from kd_heuristics.runs import summary

Numbers = dict[str, np.ndarray]


def results(
    config: Config,
    arrays: Mapping[str, Any],
    seeds: list[int],
    params: Any,
    fc: Collection[str],
) -> dict[str, Any]:
    """The numbers of the study with seeds and spread, and the claims' statistics.

    `params` are the initial ones of the first seed, `fc` the paths of its FC stack.
    """
    accuracy = {arm: arrays[f"{arm}/test_accuracy"] for arm in config.arms}
    early = config.warmup_epochs - 1
    numbers: dict[str, Numbers] = {
        "early accuracy": {arm: values[:, early] for arm, values in accuracy.items()},
        "final accuracy": {arm: values[:, -1] for arm, values in accuracy.items()},
        "FC similarity": _similarities(config, arrays, "_fc"),
        "convolution similarity": _similarities(config, arrays, "_conv"),
    }
    statistics = {}
    for name, values in numbers.items():
        scale = 100 if name.endswith("accuracy") else 1  # shares, and points
        found = _differences(name, values)
        statistics |= {key: scale * value for key, value in found.items()}
    statistics |= _layer_changes(config, arrays)
    statistics |= sharpness_statistics(config, arrays)
    return _sharpness(config, arrays) | {
        "seeds": seeds,
        "arms": {
            arm: {name: summary(values[arm]) for name, values in numbers.items()}
            for arm in config.arms
        },
        "trained": {
            early_training(arm): {
                str(seed): float(value)
                for seed, value in zip(
                    seeds, arrays[f"{arm}/accuracy"][:, early], strict=True
                )
            }
            for arm in config.arms
        },
        "frozen_at_random": _frozen_at_random(config, params, fc),
        "similarities_by_measure": maps.by_measure(
            lambda kind: _differences(
                "FC similarity", _similarities(config, arrays, "_fc", kind)
            ),
            config.measure,
        ),
        "statistics": statistics,
    }


def _similarities(
    config: Config, arrays: Mapping[str, Any], ending: str, kind: str = ""
) -> Numbers:
    """Mean similarity of layers before and after the warmup, by arm.

    `ending` of their names chooses the layers; `kind` is a suffix of the maps' names,
    as in `maps.by_measure`.
    """
    of = [i for i, name in enumerate(arrays["layers"]) if name.endswith(ending)]
    return {
        arm: np.diagonal(maps_of_arm, axis1=1, axis2=2)[:, of].mean(1)
        for arm in config.arms
        for maps_of_arm in [arrays[f"{arm}/similarity{kind}"]]
    }


def _layer_changes(config: Config, arrays: Mapping[str, Any]) -> Numbers:
    """How much more the FC layers change than the convolutions, [seeds] each."""
    found = {}
    for key, arm, name in (
        ("fc-change/large", "large", "similarity"),
        ("fc-change-later/warmup", "warmup", "similarity_later"),
    ):
        if arm in config.arms:
            own = np.diagonal(arrays[f"{arm}/{name}"], axis1=1, axis2=2)
            names = list(map(str, arrays["layers"]))
            found[f"{key}, convolutions minus FC"] = conv_minus_fc(own, names)
    return found


def _sharpness(config: Config, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Eigenvalues alone and times the rate, by arm and step; {} if none is measured."""
    if not config.sharpness_steps:
        return {}
    names = [f"{n}_{block}" for n in ("eigenvalue", "product") for block in BLOCKS]
    return {
        "sharpness": {
            arm: {
                str(step): {
                    name: summary(arrays[f"{arm}/{name}"][:, place]) for name in names
                }
                for place, step in enumerate(config.sharpness_steps)
            }
            for arm in config.arms
        }
    }


def sharpness_statistics(config: Config, arrays: Mapping[str, Any]) -> Numbers:
    """The statistics of the claims about sharpness, in doublings, [seeds] each.

    Of arrays as `curvature.measure_all` gives them, at the steps of the warmup alone:
    at its end frozen layers thaw. {} if none is measured.
    """
    during = config.sharpness_early
    if not during:
        return {}
    found: Numbers = {}
    for arm in config.arms:
        whole, fc, product = (
            _doublings(arrays[f"{arm}/{name}"][:, during])
            for name in ("eigenvalue_all", "eigenvalue_fc", "product_all")
        )
        highest = _over_steps(np.max, product) - 1  # 2 is one doubling of 1
        found[f"sharpness, {arm} above 2"] = highest
        found[f"sharpness, {arm} below 2"] = -highest
        found[f"sharpness, {arm} falls"] = whole[:, 0] - whole[:, -1]
        found[f"sharpness, {arm} fc minus all"] = _over_steps(np.mean, fc - whole)
    return found


def _doublings(values: np.ndarray) -> np.ndarray:
    """Base-2 logarithms; NaN of what is not positive, such as a dead network's."""
    positive = np.where(values > 0, values, np.nan)
    return np.log2(positive)


def _over_steps(reduce: Callable, values: np.ndarray) -> np.ndarray:
    """Reduces [seeds, steps] over the finite steps; NaN for a seed without any."""
    kept = [row[np.isfinite(row)] for row in values]
    return np.array([reduce(row) if row.size else np.nan for row in kept])


def _differences(name: str, values: Numbers) -> Numbers:
    """The differences of a number between all pairs of arms, [seeds] each."""
    return {
        difference(name, a, b): values[a] - values[b]
        for a, b in itertools.permutations(values, 2)
    }


def _frozen_at_random(
    config: Config, params: Any, fc: Collection[str]
) -> dict[str, Any]:
    """The layers of the arm "freeze_random", and their size beside the FC stack's."""
    chosen = random_layers(params, config.first_seed, fc)
    sizes = {"fc": 0, "random": 0}
    for path, leaf in leaf_names.flat(params).items():
        if leaf.ndim >= 2 and path in fc:
            sizes["fc"] += leaf.size
        elif leaf.ndim >= 2 and layer_of(path) in chosen:
            sizes["random"] += leaf.size
    return {"layers": sorted(chosen), "parameters": sizes}
