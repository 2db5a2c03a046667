"""The claims about curves between modes, each a number that a run can contradict."""

from typing import Any

import numpy as np

from experiments.common import paper
from experiments.mode_connectivity.config import Config
from kd_heuristics.runs import Claim


def claims(config: Config) -> tuple[Claim, ...]:
    """The claims for the pairs that run, with the paper's digitised numbers."""
    # "As good" means worse by no more than the declared margin.
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
    """A digitised curve, [28]; `place` 0 or -1 selects the first or last curve epoch.

    Points that the figure hides are NaN.
    """
    found = paper.table(f"mode_connectivity/{table}")
    row = np.flatnonzero(found["curve"] == pair)[place]
    return np.array([found[name][row] for name in found if name[0] == "0"])


def _paper_worst(pair: str, place: int) -> float:
    """The paper's worst accuracy on a chain."""
    return float(np.nanmin(_paper_row("fig1_val_acc", pair, place)) / 100)


def _paper_worse_end(pair: str) -> float:
    """The paper's worse end: the lower of the outermost visible points."""
    row = _paper_row("fig1_val_acc", pair, -1)
    visible = row[np.isfinite(row)]
    return float(min(visible[0], visible[-1]) / 100)


def _paper_bend(pair: str, place: int) -> float:
    """The paper's loss at the bend: the mean of the two points beside t = 1/2."""
    return float(_paper_row("fig7_val_loss", pair, place)[13:15].mean())


def _mean(values) -> float:
    return float(np.mean(list(values)))


def _rounded(value: float) -> float:
    return round(value, 4)
