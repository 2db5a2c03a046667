"""What the paper says of restarts, as numbers that a run can contradict."""

from experiments.sgdr.config import Config
from kd_heuristics.runs import Claim


def claims(config: Config) -> tuple[Claim, ...]:
    """What the paper says of this study, as numbers that a run can contradict."""
    rules = {"smallest_effect": config.smallest_effect, "margin": config.margin}
    relative = "of the worse end's train loss"
    paper = {"sgdr 30-70": 0.05, "sgdr 70-150": 1.8, "sgdr 30-150": 2.2}
    barriers = [
        Claim(
            key=f"barrier/{arm}/{a}-{b}",
            statement=f"{words} between epochs {a} and {b}",
            statistic=f"barrier {arm} {a}-{b}",
            direction=direction,
            unit=relative,
            paper=paper.get(f"{arm} {a}-{b}"),
            **rules,
        )
        for arm, words, direction in (
            ("sgdr", "SGDR crosses a barrier", "above"),
            ("step", "step decay crosses no barrier", "below"),
        )
        for a, b in config.pairs(arm)
    ]
    return (
        *barriers,
        Claim(
            key="chain-gain",
            statement="every fitted chain has a lower mean train loss than its segment",
            statistic="least gain of a chain over its segment",
            direction="above",
            unit="of the segment's mean train loss",
            **rules,
        ),
        Claim(
            key="final-accuracy/cosine-sgdr",
            statement="one cosine over the whole budget does as well as SGDR",
            statistic="final test accuracy, cosine minus SGDR",
            direction="above",
            smallest_effect=0.0,
            margin=0.01,
            unit="accuracy",
        ),
        Claim(
            key="similarity/shallow-deep",
            statement="shallow layers stay more alike than deep ones over a restart",
            statistic="similarity of the shallow less the deep convolutions",
            direction="above",
            smallest_effect=0.05,
            margin=0.05,
            unit="similarity",
            paper=0.29,  # Figure 14a: convolutions 1 to 4 and 5 to 8
        ),
        Claim(
            key="similarity/restart-seeds",
            statement="a restart changes less than a new seed does",
            statistic="similarity over a restart less that of two seeds",
            direction="above",
            smallest_effect=0.05,
            margin=0.05,
            unit="similarity",
        ),
    )
