"""Numbers of a run of the distillation study."""

import functools
from typing import Any

import numpy as np

from experiments.common import fidelity, maps
from experiments.distillation import table
from experiments.distillation.claims import (
    deep,
    late_minus_early,
    least_minus_largest,
    null_accuracy,
    null_change,
)
from experiments.distillation.config import Config
from experiments.distillation.networks import Networks
from kd_heuristics.runs import summary


def results(config: Config, arrays: dict, nets: Networks) -> dict[str, Any]:
    """Returns the numbers with seeds and spread, and the statistics of the claims."""
    per_layer = {
        kind: {
            words: {
                layer: summary(rows)
                for layer, rows in zip(nets.layers, values.mean(1).T, strict=True)
            }
            for words, values in (("absolute", np.abs(change)), ("signed", change))
        }
        for kind, change in changes(config, arrays).items()
    }
    final = {
        arm: arrays[f"{arm}/test_accuracy"][:, -1] for arm in ("teacher", *config.arms)
    }
    if config.teachers == "one":  # the same for every seed
        final["teacher"] = final["teacher"][:1]
    return table.results(config, arrays) | {
        "seeds": list(range(config.first_seed, config.first_seed + config.seeds)),
        "final_test_accuracy": {arm: summary(values) for arm, values in final.items()},
        "pairs": {
            **({"hint": [nets.guided, nets.hint]} if nets.hint else {}),
            **({"fsp": [nets.flow, nets.teacher_flow]} if nets.teacher_flow else {}),
        },
        "change_of_similarity": per_layer,
        "entropies": {
            arm: summary(arrays[f"{arm}/entropy"])
            for arm in (config.distilled, *config.nulls)
            if config.nulls
        },
        "fidelity": fidelity.results(config.arms, arrays),
        "similarities_by_measure": maps.by_measure(
            functools.partial(similarities, config, arrays), config.measure
        ),
        "statistics": statistics(config, arrays),
    }


def compared(config: Config) -> tuple[str, ...]:
    """Names of the maps: the arms, then the nulls."""
    second = "second/distilled", "second/independent"
    return *config.arms, "other_independent", *second


def changes(config: Config, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Computes signed differences of maps, [seeds, teacher layers, student layers]."""
    independent = arrays["map/independent"]
    arms = {
        arm: arrays[f"map/{arm}"] - independent
        for arm in config.arms
        if arm != "independent"
    }
    return arms | {
        # A student shares its start and batches with the independent one of its seed.
        # The null shares neither; compare it with "unpaired", which shares neither too.
        "null": arrays["map/other_independent"] - independent,
        "unpaired": arrays["map/other_independent"] - arrays[f"map/{config.distilled}"],
        "second teacher": arrays["map/second/distilled"]
        - arrays["map/second/independent"],
    }


def statistics(config: Config, arrays: dict) -> dict[str, np.ndarray]:
    """Computes the statistics of the claims, one value per seed."""
    final = {
        arm: arrays[f"{arm}/test_accuracy"][:, -1]
        for arm in ("independent", config.distilled)
    }
    gain = 100 * (final[config.distilled] - final["independent"])
    if config.smallest_gap is not None:
        teacher = arrays["teacher/test_accuracy"][:, -1]
        gap = 100 * (teacher - final["independent"])
        gain = np.where(gap >= config.smallest_gap, gain, np.nan)
    return {
        "accuracy, distilled minus independent": gain,
        **similarities(config, arrays),
        **{
            null_accuracy(null): 100
            * (
                arrays[f"{config.distilled}/test_accuracy"]
                - arrays[f"{null}/test_accuracy"]
            )[:, -1]
            for null in config.nulls
        },
        **table.statistics(config, arrays),
        **fidelity.statistics([(config.distilled, "independent")], arrays),
    }


def similarities(config: Config, arrays: dict, kind: str = "") -> dict[str, np.ndarray]:
    """Computes the statistics of the maps whose names end in `kind`."""
    seen = {f"map/{name}": arrays[f"map/{name}{kind}"] for name in compared(config)}
    found = changes(config, seen)
    fc = deep(list(arrays["layers"]))
    change = found[config.distilled]

    def size(values, columns):
        return np.abs(values)[..., columns].mean((1, 2))

    def signed(values):
        return values[..., fc].mean((1, 2))

    nulls = {
        null_change(null): size(change, fc) - size(found[null], fc)
        for null in config.nulls
    }
    return nulls | {
        "change of FC layers minus change of convolutions": (
            size(change, fc) - size(change, ~fc)
        ),
        "FC layers: change towards late minus towards early layers": late_minus_early(
            change[..., fc]
        ),
        "FC layers: distance to another start, distilled minus independent": (
            size(found["unpaired"], fc) - size(found["null"], fc)
        ),
        "FC layers: change towards the teacher minus towards another": (
            signed(change) - signed(found["second teacher"])
        ),
        "least change of an FC layer minus largest of a convolution": (
            least_minus_largest(change, list(map(str, arrays["layers"])))
        ),
    }
