"""The claims about curves between modes, each a number that a run can contradict."""

from typing import Any

import numpy as np

from experiments.common import paper
from experiments.mode_connectivity.config import MODES, Config
from kd_heuristics.runs import Claim

LOSS = 0.02  # smallest difference of losses that counts, in nats
BARRIER = 20.0  # % of a barrier: less of it gone explains little of it
ONE_PAIR = 3.0  # points that a single pair may lose; the paper's worst loses 2.1
# Test accuracy near the ends of the paper's chains, in points: their last epoch at
# t = 0.966, for G at t = 0.034.
PAPERS_ACCURACY = {
    "G": 93.0,
    "A": 86.4,
    "B": 86.2,
    "C": 93.2,
    "D": 90.8,
    "E": 77.9,
    "F": 90.7,
}


def claims(config: Config) -> tuple[Claim, ...]:
    """The claims for the pairs that run, with the paper's digitised numbers."""
    return (
        *_chains(config),
        *_fitting(config),
        *_modes(config),
        *_alignment(config),
    )


def _chains(config):
    as_good: dict[str, Any] = {
        "kind": "as_good",
        "smallest_effect": 100 * config.as_good_as,
        "unit": "points of test accuracy",
    }
    modes = {"trainings": config.modes}
    better: dict[str, Any] = {
        "kind": "difference",
        "smallest_effect": 100 * config.smallest_effect,
        "unit": "points of test accuracy",
    }
    papers = {
        pair: _rounded(100 * (_paper_worst(pair, -1) - _paper_worse_end(pair)))
        for pair in config.pairs
    }
    yield Claim(
        key="worst-minus-end",
        words="each point of a chain is as good as its worse end, mean of the pairs",
        paper=_rounded(_mean(papers.values())),
        main=True,
        **modes,
        **as_good,
    )
    yield Claim(
        key="worst-minus-segment",
        words="a chain has a better worst point than its segment, mean of the pairs",
        main=True,
        **modes,
        **better,
    )
    as_good["smallest_effect"] = ONE_PAIR
    for pair in config.pairs:
        yield Claim(
            key=f"worst-minus-end/{pair}",
            words=f"each point of the chain {pair} is as good as its worse end",
            paper=papers[pair],
            trainings=tuple(pair),
            **as_good,
        )
    if "bezier" in config.kinds:
        yield Claim(
            key="worst-minus-end/bezier",
            words="each point of every Bezier curve is as good as its worse end",
            **modes,
            **as_good,
        )
    for pair in config.pairs:
        yield Claim(
            key=f"worst-minus-segment/{pair}",
            words=f"the chain {pair} has a better worst point than its segment",
            trainings=tuple(pair),
            **better,
        )


def _fitting(config):
    def mean(gap):
        return _rounded(_mean(gap(pair) for pair in config.pairs))

    gain = mean(lambda pair: 100 * (_paper_worst(pair, -1) - _paper_worst(pair, 0)))
    rise = mean(lambda pair: _paper_bend(pair, -1) - _paper_bend(pair, 0))
    yield Claim(
        key="worst-by-epochs",
        words="the worst point of a chain improves with its epochs, mean of the pairs",
        kind="difference",
        smallest_effect=paper.smallest_effect(100 * config.smallest_effect, gain),
        unit="points of test accuracy",
        paper=gain,
        trainings=config.modes,
    )
    yield Claim(
        key="bend-loss/epochs",
        words="a bend overfits: its test loss rises with the chain's epochs",
        kind="difference",
        smallest_effect=paper.smallest_effect(LOSS, rise),
        unit="nats",
        paper=rise,
        trainings=config.modes,
    )
    if "decayed" in config.kinds:
        yield Claim(
            key="bend-loss/decay",
            words="a bend with weight decay overfits less than one without",
            kind="difference",
            smallest_effect=LOSS,
            unit="nats",
            trainings=config.modes,
        )


def _modes(config):
    own = 100 * config.smallest_effect
    for mode in config.modes[1:]:
        value = _rounded(PAPERS_ACCURACY["G"] - PAPERS_ACCURACY[mode])
        same = abs(value) < own
        yield Claim(
            key=f"accuracy/G/{mode}",
            words=f"{MODES[mode].words} ends {'as' if same else 'below'} the mode G",
            kind="equal" if same else "difference",
            smallest_effect=own,
            unit="points of test accuracy",
            paper=value,
            trainings=("G",),
        )


def _alignment(config):
    """Secondary claims, of rivals: do the modes differ in the order of their units?

    Ainsworth et al. 2022 (arXiv 2209.04836) say so of barriers; REPAIR, Jordan et al.
    2022 (arXiv 2211.08403), re-estimates batch norm's statistics between two networks.
    """
    for method in config.aligned:
        by, source = f"after alignment by {method}", "(git re-basin, REPAIR)"
        points: dict[str, Any] = {"unit": "points of test accuracy"}
        points["trainings"] = config.modes
        yield Claim(
            key=f"alignment/{method}/barrier",
            words=f"{by} the barriers in train loss are lower, mean of pairs {source}",
            kind="difference",
            smallest_effect=BARRIER,
            unit="% of the barrier before",
            trainings=config.modes,
        )
        yield Claim(
            key=f"alignment/{method}/worst-minus-segment",
            words=f"{by} a segment has a better worst point than before, mean of pairs "
            f"{source}",
            kind="difference",
            smallest_effect=100 * config.smallest_effect,
            **points,
        )
        yield Claim(
            key=f"alignment/{method}/worst-minus-chain",
            words=f"{by} a segment's worst point is as good as its chain's, mean of "
            f"pairs {source}",
            kind="as_good",
            smallest_effect=100 * config.as_good_as,
            **points,
        )


def _paper_row(table: str, pair: str, place: int) -> np.ndarray:
    """A digitised curve at the first or last curve epoch, [28]; NaN where hidden."""
    found = paper.table(f"mode_connectivity/{table}")
    row = np.flatnonzero(found["curve"] == pair)[place]
    return np.array([found[name][row] for name in found if name[0] == "0"])


def _paper_worst(pair: str, place: int) -> float:
    return float(np.nanmin(_paper_row("fig1_val_acc", pair, place)) / 100)


def _paper_worse_end(pair: str) -> float:
    """Accuracy at the worse of the two visible points nearest to the ends."""
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
