"""The numbers of a run of the mode connectivity study."""

from collections.abc import Callable
from typing import Any

import numpy as np

from experiments.mode_connectivity.alignments import kind as aligned_kind
from experiments.mode_connectivity.config import MODES, Config
from kd_heuristics import points
from kd_heuristics.runs import summary


def results(config: Config, arrays: dict, seeds: list[int]) -> dict[str, Any]:
    """The numbers of the study with seeds and spread, and the claims' statistics."""
    pairs = {pair: _pair(config, arrays, pair) for pair in config.pairs}
    return {
        "seeds": seeds,
        "modes": {
            mode: {
                "words": MODES[mode].words,
                "test_accuracy": summary(arrays[f"{mode}/test_accuracy"][:, -1]),
                "test_loss": summary(arrays[f"{mode}/test_loss"][:, -1]),
            }
            for mode in config.modes
        },
        "curve_epochs": list(config.curve_epochs),
        "pairs": {
            pair: {name: _summaries(values) for name, values in found.items()}
            for pair, found in pairs.items()
        },
        "statistics": _statistics(config, arrays, pairs),
    }


def _pair(config: Config, arrays: dict, pair: str) -> dict[str, np.ndarray]:
    """The numbers of one pair: [seeds], or [seeds, curve epochs] for a fitted curve."""
    half = int(np.searchsorted(arrays["t"], 0.5))
    segment = arrays[f"{pair}/segment/test_accuracy"]
    found = {
        "distance": arrays["distances"][:, 0, config.modes.index(pair[1])],
        "worse end": np.minimum(segment[:, 0], segment[:, -1]),
        "worst accuracy, segment": segment[:, 1:-1].min(-1),
    }
    for kind in config.kinds:
        accuracy = arrays[f"{pair}/{kind}/test_accuracy"]
        found[f"worst accuracy, {kind}"] = accuracy[..., 1:-1].min(-1)
        for part in ("train", "test"):
            loss = arrays[f"{pair}/{kind}/{part}_loss"]
            found[f"{part} loss at t = 1/2, {kind}"] = loss[..., half]
    kinds = [aligned_kind(method) for method in config.aligned]
    for kind in ("segment", *kinds) if kinds else ():
        loss = arrays[f"{pair}/{kind}/train_loss"]
        found[f"barrier, {kind}"] = np.array([points.barrier(own) for own in loss])
    for kind in kinds:
        accuracy = arrays[f"{pair}/{kind}/test_accuracy"]
        found[f"worst accuracy, {kind}"] = accuracy[:, 1:-1].min(-1)
        found[f"distance, {kind}"] = arrays[f"{pair}/{kind}/distance"]
    return found


def _statistics(config: Config, arrays: dict, pairs: dict) -> dict[str, np.ndarray]:
    """The statistics of the claims by key, [seeds] each."""
    found: dict[str, np.ndarray] = {}
    for pair, values in pairs.items():
        worst = values["worst accuracy, chain"][:, -1]
        found[f"worst-minus-end/{pair}"] = 100 * (worst - values["worse end"])
        over = worst - values["worst accuracy, segment"]
        found[f"worst-minus-segment/{pair}"] = 100 * over
    for key in ("worst-minus-end", "worst-minus-segment"):
        found[key] = np.mean([found[f"{key}/{pair}"] for pair in pairs], axis=0)
    if "bezier" in config.kinds:
        bezier = [
            values["worst accuracy, bezier"][:, -1] - values["worse end"]
            for values in pairs.values()
        ]
        found["worst-minus-end/bezier"] = 100 * np.min(bezier, axis=0)

    def mean(name):
        """Mean over the pairs, [seeds, curve epochs]."""
        return np.mean([values[name] for values in pairs.values()], axis=0)

    worst = mean("worst accuracy, chain")
    bend = {kind: mean(f"test loss at t = 1/2, {kind}") for kind in config.kinds}
    if "decayed" in bend:
        found["bend-loss/decay"] = (bend["chain"] - bend["decayed"])[:, -1]
    final = {mode: arrays[f"{mode}/test_accuracy"][:, -1] for mode in config.modes}
    found |= {
        f"accuracy/G/{mode}": 100 * (final["G"] - final[mode])
        for mode in config.modes[1:]
    }
    found |= _of_alignment(config, mean)
    return found | {
        "worst-by-epochs": 100 * (worst[:, -1] - worst[:, 0]),
        "bend-loss/epochs": bend["chain"][:, -1] - bend["chain"][:, 0],
    }


def _of_alignment(config: Config, mean: Callable) -> dict[str, np.ndarray]:
    """The statistics of segments after alignment; `mean` is over the pairs, by name.

    The share of the barrier that is gone is NaN for a seed without a barrier before.
    """
    found = {}
    for method in config.aligned:
        kind, key = aligned_kind(method), f"alignment/{method}"
        worst = mean(f"worst accuracy, {kind}")
        before, after = (mean(f"barrier, {own}") for own in ("segment", kind))
        gone = 1 - np.divide(
            after, before, out=np.full_like(before, np.nan), where=before > 0
        )
        over = worst - mean("worst accuracy, segment")
        below = worst - mean("worst accuracy, chain")[:, -1]
        found[f"{key}/barrier"] = 100 * gone
        found[f"{key}/worst-minus-segment"] = 100 * over
        found[f"{key}/worst-minus-chain"] = 100 * below
    return found


def _summaries(values: np.ndarray) -> Any:
    """Summary of a number, or a list with one for each curve epoch."""
    if values.ndim == 1:
        return summary(values)
    return [summary(column) for column in values.T]
