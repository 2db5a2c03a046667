"""The claims on mode connectivity, and the numbers of a run that they are judged by."""

from typing import Any

import numpy as np

from experiments.presets.mode_connectivity import KINDS, MODES, Config
from kd_heuristics import paper
from kd_heuristics.report import Claim, judge_all, summary


def claims(config: Config) -> tuple[Claim, ...]:
    """What the paper says of this study, as numbers that a run can contradict."""
    # "As good" is not worse by more than the declared margin.
    as_good: dict[str, Any] = {
        "direction": "above",
        "smallest_effect": -config.as_good_as,
        "margin": 0.0,
        "unit": "accuracy",
    }
    differs: dict[str, Any] = {
        "direction": "above",
        "smallest_effect": config.smallest_effect,
        "margin": config.margin,
    }
    below_ends = [
        Claim(
            key=f"worst-minus-end/{pair}",
            statement=f"each point of the chain {pair} is as good as its worse end",
            statistic=f"worst accuracy minus worse end, {pair}",
            paper=_rounded(_paper_worst(pair, -1) - _paper_worse_end(pair)),
            **as_good,
        )
        for pair in config.pairs
    ]
    beats = [
        Claim(
            key=f"worst-minus-segment/{pair}",
            statement=f"the chain {pair} has a better worst point than its segment",
            statistic=f"worst accuracy, chain minus segment, {pair}",
            unit="accuracy",
            **differs,
        )
        for pair in config.pairs
    ]
    return (
        *below_ends,
        Claim(
            key="worst-minus-end/bezier",
            statement="each point of every Bezier curve is as good as its worse end",
            statistic="worst accuracy minus worse end, least of the Bezier curves",
            **as_good,
        ),
        *beats,
        Claim(
            key="worst-by-epochs",
            statement="the worst point of a chain improves with its epochs",
            statistic="worst accuracy, last minus first curve epoch, mean",
            unit="accuracy",
            paper=_rounded(
                _mean(
                    _paper_worst(pair, -1) - _paper_worst(pair, 0)
                    for pair in config.pairs
                )
            ),
            **differs,
        ),
        Claim(
            key="bend-loss/epochs",
            statement="a bend overfits: its test loss rises with the chain's epochs",
            statistic="test loss at the bend, last minus first curve epoch, mean",
            unit="nats",
            paper=_rounded(
                _mean(
                    _paper_bend(pair, -1) - _paper_bend(pair, 0)
                    for pair in config.pairs
                )
            ),
            **differs,
        ),
        Claim(
            key="bend-loss/decay",
            statement="a bend with weight decay overfits less than one without",
            statistic="test loss at the bend, without minus with decay, mean",
            unit="nats",
            **differs,
        ),
    )


def _paper_row(table: str, pair: str, place: int) -> np.ndarray:
    """A digitised curve at the first or last curve epoch, [28]; NaN where hidden."""
    found = paper.table(f"closer_look/{table}")
    row = np.flatnonzero(found["curve"] == pair)[place]
    return np.array([found[name][row] for name in found if name[0] == "0"])


def _paper_worst(pair: str, place: int) -> float:
    return float(np.nanmin(_paper_row("fig1_val_acc", pair, place)) / 100)


def _paper_worse_end(pair: str) -> float:
    """Of the visible points nearest to the ends."""
    row = _paper_row("fig1_val_acc", pair, -1)
    visible = row[np.isfinite(row)]
    return float(min(visible[0], visible[-1]) / 100)


def _paper_bend(pair: str, place: int) -> float:
    """The mean of the two points beside t = 1/2."""
    return float(_paper_row("fig7_val_loss", pair, place)[13:15].mean())


def _mean(values) -> float:
    return float(np.mean(list(values)))


def _rounded(value: float) -> float:
    return round(value, 4)


def results(config: Config, arrays: dict, seeds: list[int]) -> dict[str, Any]:
    """The numbers of the study, each with its seeds and spread, and the verdicts."""
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
        "claims": judge_all(claims(config), _statistics(pairs)),
    }


def _pair(config: Config, arrays: dict, pair: str) -> dict[str, np.ndarray]:
    """The numbers of one pair, [seeds] or, of a curve, [seeds, curve epochs]."""
    half = int(np.searchsorted(arrays["t"], 0.5))
    segment = arrays[f"{pair}/segment/test_accuracy"]
    found = {
        "distance": arrays["distances"][:, 0, config.modes.index(pair[1])],
        "worse end": np.minimum(segment[:, 0], segment[:, -1]),
        "worst accuracy, segment": segment[:, 1:-1].min(-1),
    }
    for kind in KINDS:
        accuracy = arrays[f"{pair}/{kind}/test_accuracy"]
        found[f"worst accuracy, {kind}"] = accuracy[..., 1:-1].min(-1)
        for part in ("train", "test"):
            loss = arrays[f"{pair}/{kind}/{part}_loss"]
            found[f"{part} loss at t = 1/2, {kind}"] = loss[..., half]
    return found


def _statistics(pairs: dict[str, dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """What the claims are about, [seeds] each."""
    found = {}
    for pair, values in pairs.items():
        worst = values["worst accuracy, chain"][:, -1]
        over_segment = worst - values["worst accuracy, segment"]
        found[f"worst accuracy minus worse end, {pair}"] = worst - values["worse end"]
        found[f"worst accuracy, chain minus segment, {pair}"] = over_segment
    bezier = [
        values["worst accuracy, bezier"][:, -1] - values["worse end"]
        for values in pairs.values()
    ]
    least = "worst accuracy minus worse end, least of the Bezier curves"
    found[least] = np.min(bezier, axis=0)

    def mean(name):
        """Over the pairs, [seeds, curve epochs]."""
        return np.mean([values[name] for values in pairs.values()], axis=0)

    worst = mean("worst accuracy, chain")
    bend, decayed = (
        mean(f"test loss at t = 1/2, {kind}") for kind in ("chain", "decayed")
    )
    return found | {
        "worst accuracy, last minus first curve epoch, mean": worst[:, -1]
        - worst[:, 0],
        "test loss at the bend, last minus first curve epoch, mean": bend[:, -1]
        - bend[:, 0],
        "test loss at the bend, without minus with decay, mean": bend[:, -1]
        - decayed[:, -1],
    }


def _summaries(values: np.ndarray) -> Any:
    """Of a number, or of one a curve epoch."""
    if values.ndim == 1:
        return summary(values)
    return [summary(column) for column in values.T]
