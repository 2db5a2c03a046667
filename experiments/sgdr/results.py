"""Results of a run of the SGDR study."""

import functools
from typing import Any

import numpy as np

from experiments.common import maps
from experiments.sgdr import averages, twins
from experiments.sgdr.claims import DECAYS, STABLE, last_pair, shallow_less_deep
from experiments.sgdr.config import ARMS, Config
from kd_heuristics import points
from kd_heuristics.runs import summary


def results(config: Config, arrays: dict, seeds: list[int]) -> dict[str, Any]:
    """Returns the results with seeds and spread, and the statistics of the claims."""
    rows = {
        (arm, pair): _pair(arrays, f"{arm}/{pair[0]}-{pair[1]}")
        for arm in ARMS
        for pair in config.pairs(arm)
    }
    pairs = [
        {"arm": arm, "epochs": [*pair]} | {key: summary(v) for key, v in row.items()}
        for (arm, pair), row in rows.items()
    ]
    at = config.last_minimum
    final = {arm: arrays[f"{arm}/test_accuracy"][:, at] for arm in config.arms}
    similarities = functools.partial(_similarities, arrays)
    gains = [row["gain"] for row in rows.values() if "gain" in row]
    statistics = {
        **_barriers(config, rows),
        **_bend(arrays, rows["sgdr", last_pair(config.pairs("sgdr"))]),
        "chain-gain": 100 * np.min(gains, axis=0),
        "final-accuracy/cosine-sgdr": 100 * (final["cosine"] - final["sgdr"]),
        **similarities(),
        **_of_lenses(config, arrays, final),
    }
    return _lenses(config, arrays) | {
        "seeds": seeds,
        "accuracy_after_epoch": at,
        "final_test_accuracy": {arm: summary(value) for arm, value in final.items()},
        "pairs": pairs,
        "similarities": {k: summary(v) for k, v in similarities().items()},
        "similarities_by_measure": maps.by_measure(similarities, config.measure),
        "statistics": statistics,
    }


def _barriers(config: Config, rows: dict) -> dict[str, np.ndarray]:
    """Computes for each pair and seed whether it has a barrier (or none), as 1 or 0."""
    found = {}
    for (arm, (a, b)), row in rows.items():
        crosses = row["relative_barrier"] >= config.smallest_effect
        held = crosses if arm == "sgdr" else ~crosses
        found[f"barrier/{arm}/{a}-{b}"] = _yes(row["relative_barrier"], held)
    a, b = last_pair(config.pairs("sgdr"))
    row = rows["sgdr", (a, b)]
    below = row["chain_barrier"] < config.smallest_effect
    found["basins"] = _yes(row["chain_barrier"], below)
    if config.largest_end_loss is not None:
        ends = np.maximum(row["start_train_loss"], row["end_train_loss"])
        for key in (f"barrier/sgdr/{a}-{b}", "basins"):
            found[key] = np.where(ends <= config.largest_end_loss, found[key], np.nan)
    return found


def _lenses(config: Config, arrays: dict) -> dict[str, Any]:
    """Returns accuracies of averages, and what happens between twins, if any."""
    found: dict[str, Any] = {}
    if config.averaged:
        found["minima"] = list(config.minima)
        if config.short_minima:
            found["fge_minima"] = list(config.short_minima)
        found["averages"] = {
            f"{kind}_test_accuracy": summary(arrays[f"averages/{kind}/test_accuracy"])
            for kind in averages.kinds(config)
        }
    if config.twin_epochs:
        found["twins"] = {
            str(epochs): {
                "error_rise": summary(_rise(arrays, epochs)),
                "weight_distance": summary(arrays[f"{twins.name(epochs)}/distance"]),
            }
            for epochs in config.twin_epochs
        }
    return found


def _rise(arrays: dict, epochs: int) -> np.ndarray:
    """Computes the rise in test error between runs and twins, [seeds], in points."""
    return twins.rise(arrays[f"{twins.name(epochs)}/segment/test_accuracy"])


def _of_lenses(config: Config, arrays: dict, final: dict) -> dict[str, np.ndarray]:
    """Computes the statistics of the claims about rivals, [seeds] each."""
    found = {
        f"final-accuracy/{arm}-sgdr": 100 * (final[arm] - final["sgdr"])
        for arm in config.more_arms
        if arm in DECAYS
    }
    if config.averaged:
        last, ensemble, average = (
            100 * arrays[f"averages/{kind}/test_accuracy"] for kind in averages.KINDS
        )
        # Networks of an ensemble keep their own batch-norm statistics, as the last
        # minimum in `final`; an average needs new ones, and so does "last" beside it.
        found["averages/ensemble-last"] = ensemble - 100 * final["sgdr"]
        found["averages/ensemble-cosine"] = ensemble - 100 * final["cosine"]
        found["averages/average-last"] = average - last
        if config.short_minima:
            short = 100 * arrays[f"averages/{averages.SHORT}/test_accuracy"]
            found["averages/fge-last"] = short - 100 * final["sgdr"]
            found["averages/fge-ensemble"] = short - ensemble
    rises = [_rise(arrays, epochs) for epochs in config.twin_epochs]
    for epochs, rise in zip(config.twin_epochs, rises, strict=True):
        held = rise < STABLE if epochs else rise >= STABLE
        loss = arrays[f"{twins.name(epochs)}/segment/test_loss"].sum(1)
        found[f"instability/{epochs}"] = _yes(loss, held)
    if len(rises) > 1:
        found["instability/falls"] = rises[0] - rises[-1]
    return found


def _yes(values: np.ndarray, held: np.ndarray) -> np.ndarray:
    """Converts `held` to 1 or 0 for each seed; NaN if its value is not finite."""
    return np.where(np.isfinite(values), held, np.nan)


def _bend(arrays: dict, row: dict) -> dict[str, np.ndarray]:
    """Compares the bend of a pair and the middle of its segment with the ends."""
    ends = np.maximum(row["start_train_loss"], row["end_train_loss"])
    better_end = np.minimum(row["start_test_loss"], row["end_test_loss"])
    return {
        "bend/train-loss": 100 * (1 - row["bend_train_loss"] / row["end_train_loss"]),
        "bend/test-loss": row["bend_test_loss"] - row["end_test_loss"],
        "between/train-loss": 100 * (row["middle_train_loss"] / ends - 1),
        "between/test-loss": better_end - row["middle_test_loss"],
    }


def _similarities(arrays: dict, kind: str = "") -> dict[str, np.ndarray]:
    """Computes the statistics of Figure 14, [seeds]; NaN if one needs two seeds."""
    restart, whole, seeds = (
        np.diagonal(arrays[f"maps/{name}{kind}"], axis1=1, axis2=2)
        for name in ("restart", "first-last", "seeds")
    )
    layers = [*arrays["layers"]]
    return {
        "similarity/shallow-deep": shallow_less_deep(restart, layers),
        "similarity/shallow-deep-whole": shallow_less_deep(whole, layers),
        "similarity/restart-whole": (restart - whole).mean(1),
        "similarity/restart-seeds": (restart - seeds).mean(1),
    }


def _pair(arrays: dict, name: str) -> dict[str, np.ndarray]:
    """Computes the statistics of one pair, [seeds] each."""
    segment = arrays[f"{name}/segment/train_loss"]
    worse_end = np.maximum(segment[:, 0], segment[:, -1])
    barrier = np.array([points.barrier(values) for values in segment])
    mean = np.trapezoid(segment, arrays["t"], axis=1)
    half = int(np.searchsorted(arrays["t"], 0.5))
    found = {
        "relative_barrier": barrier / worse_end,
        "barrier_nats": barrier,
        "weight_distance": arrays[f"{name}/distance"],
        "start_train_loss": segment[:, 0],
        "end_train_loss": segment[:, -1],
        "segment_mean_train_loss": mean,
        "middle_train_loss": segment[:, half],
        "middle_test_loss": arrays[f"{name}/segment/test_loss"][:, half],
        "start_test_loss": arrays[f"{name}/segment/test_loss"][:, 0],
        "end_test_loss": arrays[f"{name}/segment/test_loss"][:, -1],
        "least_segment_test_accuracy": arrays[f"{name}/segment/test_accuracy"].min(1),
    }
    if f"{name}/chain/train_loss" not in arrays:
        return found
    chain = arrays[f"{name}/chain/train_loss"]
    chain_mean = np.trapezoid(chain, arrays["t"], axis=1)
    return found | {
        "gain": 1 - chain_mean / mean,
        "chain_barrier": [points.barrier(values) for values in chain] / worse_end,
        "chain_mean_train_loss": chain_mean,
        "chain_maximum_train_loss": chain.max(axis=1),
        "bend_train_loss": chain[:, half],
        "bend_test_loss": arrays[f"{name}/chain/test_loss"][:, half],
        "least_chain_test_accuracy": arrays[f"{name}/chain/test_accuracy"].min(1),
    }
