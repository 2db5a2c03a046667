"""The numbers of a run of the SGDR study, and the verdicts."""

import functools
from typing import Any

import numpy as np

from experiments.common import maps
from experiments.sgdr.claims import claims
from experiments.sgdr.config import ARMS, Config
from kd_heuristics import points
from kd_heuristics.runs import judge_all, summary


def results(config: Config, arrays: dict, seeds: list[int]) -> dict[str, Any]:
    """The numbers of the study, each with its seeds and spread, and the verdicts."""
    statistics: dict[str, Any] = {}
    pairs, gains = [], []
    for arm in ARMS:
        for a, b in config.pairs(arm):
            name = f"{arm}/{a}-{b}"
            row = _pair(arrays, name)
            statistics[f"barrier {arm} {a}-{b}"] = row.pop("relative_barrier")
            gains.append(row.pop("gain"))
            pairs.append(
                {"arm": arm, "epochs": [a, b]}
                | {"relative_barrier": summary(statistics[f"barrier {arm} {a}-{b}"])}
                | {key: summary(value) for key, value in row.items()}
            )
    final = {arm: arrays[f"{arm}/test_accuracy"][:, -1] for arm in ARMS}
    statistics["least gain of a chain over its segment"] = np.min(gains, axis=0)
    statistics["final test accuracy, cosine minus SGDR"] = (
        final["cosine"] - final["sgdr"]
    )
    statistics |= _similarities(arrays)
    return {
        "seeds": seeds,
        "final_test_accuracy": {arm: summary(value) for arm, value in final.items()},
        "pairs": pairs,
        "similarities": {k: summary(v) for k, v in _similarities(arrays).items()},
        "similarities_by_measure": maps.by_measure(
            functools.partial(_similarities, arrays), config.measure
        ),
        "claims": judge_all(claims(config), statistics),
    }


def _similarities(arrays: dict, kind: str = "") -> dict[str, np.ndarray]:
    """The numbers of Figure 14, [seeds] each; NaN for what needs two seeds."""
    diagonal = {
        name: np.diagonal(arrays[f"maps/{name}{kind}"], axis1=1, axis2=2)
        for name in ("restart", "seeds")
    }
    kinds = np.array([name.partition("_")[2] for name in arrays["layers"]])
    convolutions = diagonal["restart"][:, kinds == "conv"]
    half = convolutions.shape[1] // 2
    return {
        "similarity of the shallow less the deep convolutions": (
            convolutions[:, :half].mean(1) - convolutions[:, half:].mean(1)
        ),
        "similarity over a restart less that of two seeds": (
            (diagonal["restart"] - diagonal["seeds"]).mean(1)
        ),
    }


def _pair(arrays: dict, name: str) -> dict[str, np.ndarray]:
    """The numbers of one pair, [seeds] each."""
    segment = arrays[f"{name}/segment/train_loss"]
    chain = arrays[f"{name}/chain/train_loss"]
    worse_end = np.maximum(segment[:, 0], segment[:, -1])
    barrier = np.array([points.barrier(values) for values in segment])
    mean = {
        key: np.trapezoid(values, arrays["t"], axis=1)
        for key, values in (("segment", segment), ("chain", chain))
    }
    bend = int(np.searchsorted(arrays["t"], 0.5))
    return {
        "relative_barrier": barrier / worse_end,
        "gain": 1 - mean["chain"] / mean["segment"],
        "barrier_nats": barrier,
        "weight_distance": arrays[f"{name}/distance"],
        "start_train_loss": segment[:, 0],
        "end_train_loss": segment[:, -1],
        "segment_mean_train_loss": mean["segment"],
        "chain_mean_train_loss": mean["chain"],
        "chain_maximum_train_loss": chain.max(axis=1),
        "bend_train_loss": chain[:, bend],
        "bend_test_loss": arrays[f"{name}/chain/test_loss"][:, bend],
        "end_test_loss": arrays[f"{name}/segment/test_loss"][:, -1],
        "least_segment_test_accuracy": arrays[f"{name}/segment/test_accuracy"].min(1),
        "least_chain_test_accuracy": arrays[f"{name}/chain/test_accuracy"].min(1),
    }
