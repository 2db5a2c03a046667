"""The paper's claims about restarts, as numbers that a run can contradict."""

import numpy as np

from experiments.common import paper
from experiments.sgdr.config import ARMS, Config, Pair
from kd_heuristics.runs import Claim

SIMILARITY = 0.05  # smallest difference of similarities that counts
# Points of accuracy, that an average has to gain: less is not worth several networks.
GAIN = 0.5
# Points of error: with less of a rise Frankle et al. 2020 call a network stable.
STABLE = 2.0
# Schedules without restarts, which end where SGDR does.
DECAYS = {
    "wsd": "a constant rate and a cooldown does as well as SGDR (Hu et al. 2024)",
    "linear": "a rate that falls on a line does as well as SGDR",
}
# Segments of the paper's Figures 2c and 2d: only SGDR's cross a barrier.
PAPERS_PAIRS = {
    "sgdr": {(30, 70), (70, 150), (30, 150)},
    "step": {(55, 65), (145, 155), (55, 155)},
}


def last_pair(pairs: tuple[Pair, ...]) -> Pair:
    """Returns the pair of the last two iterates.

    >>> last_pair(((30, 70), (70, 150), (30, 150)))
    (70, 150)
    """
    return max(pairs)


def claims(config: Config) -> tuple[Claim, ...]:
    """Returns claims about barriers, bends and the layers that restarts change."""
    return (
        *_barriers(config),
        *_bend(config),
        *_similarities(config),
        *_schedules(config),
        *_averages(config),
        *_twins(config),
    )


def _barriers(config):
    """Claims about barriers, basins and fitted chains."""
    for arm, words in (
        ("sgdr", "SGDR crosses a barrier"),
        ("step", "step decay crosses no barrier"),
    ):
        pairs = config.pairs(arm)
        for pair in pairs:
            a, b = pair
            yield Claim(
                key=f"barrier/{arm}/{a}-{b}",
                words=f"{words} between epochs {a} and {b}",
                kind="mostly",
                smallest_effect=100 * config.smallest_effect,
                unit="% of the worse end's train loss",
                paper=1.0 if pair in PAPERS_PAIRS[arm] else None,
                main=pair == last_pair(pairs),
                trainings=(arm,),
            )
    a, b = last_pair(config.pairs("sgdr"))
    yield Claim(
        key="basins",
        words=f"iterates {a} and {b} lie in one basin: their chain crosses no barrier",
        kind="mostly",
        smallest_effect=100 * config.smallest_effect,
        unit="% of the worse end's train loss",
        paper=1.0,
        trainings=("sgdr",),
    )
    yield Claim(
        key="chain-gain",
        words="every fitted chain has a lower mean train loss than its segment",
        kind="difference",
        smallest_effect=100 * config.smallest_effect,
        unit="% of the segment's mean train loss",
        paper=round(100 * _papers_gain(), 1),
        main=True,
        trainings=ARMS,
    )
    yield Claim(
        key="final-accuracy/cosine-sgdr",
        words="one cosine over the whole budget does as well as SGDR",
        kind="as_good",
        smallest_effect=1.0,
        unit="points of test accuracy",
        trainings=("cosine", "sgdr"),
    )


def _bend(config):
    """Claims about the bend and the middle of the last pair's segment."""
    a, b = last_pair(config.pairs("sgdr"))
    yield Claim(
        key="bend/train-loss",
        words=f"the bend between iterates {a} and {b} has a lower train loss than {b}",
        kind="difference",
        smallest_effect=100 * config.smallest_effect,
        unit=f"% of the train loss of iterate {b}",
        paper=82.5,  # .0007 and .004
        trainings=("sgdr",),
    )
    yield Claim(
        key="bend/test-loss",
        words=f"the bend between iterates {a} and {b} has a higher test loss than {b}",
        kind="difference",
        smallest_effect=0.05,
        unit="nats",
        paper=0.25,  # Figure 11: .54 and .29
        trainings=("sgdr",),
    )
    yield Claim(
        key="between/train-loss",
        words=f"midway between iterates {a} and {b} the train loss is above the ends'",
        kind="difference",
        smallest_effect=100 * config.smallest_effect,
        unit="% of the worse end's train loss",
        paper=178.0,  # Figure 2c: .0658 and .0237
        trainings=("sgdr",),
    )
    yield Claim(
        key="between/test-loss",
        words=f"midway between iterates {a} and {b} the test loss is below the ends'",
        kind="difference",
        smallest_effect=0.01,
        unit="nats",
        trainings=("sgdr",),
    )


def _similarities(config):
    """Claims about the layers that restarts change (Figure 14)."""
    papers = papers_similarities()
    for key, words in (
        (
            "similarity/shallow-deep",
            "shallow layers stay more alike than deep ones over a restart",
        ),
        (
            "similarity/shallow-deep-whole",
            "shallow layers stay more alike than deep ones over the whole training",
        ),
        (
            "similarity/restart-whole",
            "a restart changes less than the whole training does",
        ),
        ("similarity/restart-seeds", "a restart changes less than a new seed does"),
    ):
        value = papers.get(key)
        yield Claim(
            key=key,
            words=words,
            kind="difference",
            smallest_effect=min(SIMILARITY, value or SIMILARITY),
            unit=f"similarity ({config.measure})",
            paper=value,
            trainings=("sgdr",),
        )


def _schedules(config):
    """Secondary claims: schedules without restarts do as well at equal cost."""
    for arm, words in DECAYS.items():
        if arm not in config.more_arms:
            continue
        yield Claim(
            key=f"final-accuracy/{arm}-sgdr",
            words=words,
            kind="as_good",
            smallest_effect=1.0,  # as for the cosine
            unit="points of test accuracy",
            trainings=(arm, "sgdr"),
        )


def _averages(config):
    """Secondary claims, of rivals: what the minima are good for together."""
    if not config.averaged:
        return
    short = (
        (
            "averages/fge-last",
            "the minima of short cycles together predict better than SGDR's last one "
            "at equal cost of training (FGE, Garipov et al. 2018)",
        ),
        (
            "averages/fge-ensemble",
            "the minima of short cycles together predict better than SGDR's together "
            "at equal cost of training (FGE, Garipov et al. 2018)",
        ),
    )
    for key, words in (
        (
            "averages/ensemble-last",
            "SGDR's minima together predict better than its last one (snapshot "
            "ensembles, Huang et al. 2017)",
        ),
        (
            "averages/ensemble-cosine",
            "SGDR's minima together predict better than one cosine at equal cost of "
            "training (snapshot ensembles, Huang et al. 2017)",
        ),
        (
            "averages/average-last",
            "the mean of the weights of SGDR's minima is better than its last one "
            "(SWA, Izmailov et al. 2018)",
        ),
        *(short if config.short_minima else ()),
    ):
        other = ("cosine",) if key.endswith("cosine") else ()
        other += ("fge",) if "fge" in key else ()
        yield Claim(
            key=key,
            words=words,
            kind="difference",
            smallest_effect=GAIN,
            unit="points of test accuracy",
            trainings=("sgdr", *other),
        )


def _twins(config):
    """Secondary claims, of a rival: from some epoch on, noise decides no minimum."""
    rival = "(Frankle et al. 2020)"
    shared = {"smallest_effect": STABLE, "unit": "points of test error"}
    for epochs in config.twin_epochs:
        start, end = "from the start on", "do not end linearly connected"
        if epochs:
            start, end = f"from epoch {epochs} on", "end linearly connected"
        yield Claim(
            key=f"instability/{epochs}",
            words=f"runs that see other batches {start} {end} {rival}",
            kind="mostly",
            trainings=("sgdr", f"twin{epochs}"),
            **shared,
        )
    if len(config.twin_epochs) > 1:
        first, last = config.twin_epochs[0], config.twin_epochs[-1]
        yield Claim(
            key="instability/falls",
            words=f"the error rises less between runs that part at epoch {last} than "
            f"between those that part at {first} {rival}",
            kind="difference",
            trainings=("sgdr", f"twin{first}", f"twin{last}"),
            **shared,
        )


def shallow_less_deep(diagonal: np.ndarray, layers: list[str]) -> np.ndarray:
    """Similarity of the first half of the convolutions minus that of the second.

    Args:
      diagonal: [..., layers], similarity of each layer to itself.
      layers: names of the layers, "00_conv" or the paper's "00Conv".

    Returns: [...]; NaN if there are fewer than two convolutions.
    """
    of = np.array(["conv" in name.lower() for name in layers])
    convolutions = diagonal[..., of]
    half = convolutions.shape[-1] // 2
    if not half:
        return np.full(diagonal.shape[:-1], np.nan)
    return convolutions[..., :half].mean(-1) - convolutions[..., half:].mean(-1)


def papers_similarities() -> dict[str, float]:
    """Computes the paper's statistics of Figure 14 by our rule."""
    found = {}
    for kind, file in (
        ("restart", "fig14a_sgdr_150_155"),
        ("whole", "fig14b_sgdr_10_150"),
    ):
        columns = paper.table(f"sgdr/{file}")
        layers = [name for name in columns if name]
        found[kind] = np.diagonal(np.stack([columns[name] for name in layers]))
    return {
        "similarity/shallow-deep": _round(shallow_less_deep(found["restart"], layers)),
        "similarity/shallow-deep-whole": _round(
            shallow_less_deep(found["whole"], layers)
        ),
        "similarity/restart-whole": _round((found["restart"] - found["whole"]).mean()),
    }


def _papers_gain() -> float:
    """Returns the smallest gain of a chain over its segment in Figures 2c and 2d."""
    found = paper.table("sgdr/fig2cd_train_loss")
    gains = []
    for name in np.unique(np.char.add(found["run"], found["pair"])):
        of = np.char.add(found["run"], found["pair"]) == name
        segment, chain = found["segment"][of], found["mc_curve"][of]
        seen = np.isfinite(segment) & np.isfinite(chain)
        gains.append(1 - chain[seen].mean() / segment[seen].mean())
    return float(min(gains))


def _round(value) -> float:
    return round(float(value), 4)
