"""Figures 4, 5 and 15 of Gotmare et al. 2019."""

from collections.abc import Mapping

import numpy as np

from kd_heuristics import paper
from kd_heuristics.plots import style
from kd_heuristics.plots.warmup import PAPER, PAPER_MAPS, WORDS
from kd_heuristics.report import live

_COLORS = dict(
    zip(WORDS, (*style.COLORS, "#999999", "#666666", "#8C510A"), strict=True)
)


def warmup(
    config: dict,
    results: dict,
    arrays: Mapping[str, np.ndarray],
    alt: Mapping[str, str],
):
    """`{"figure4": [panel, ...], ...}`."""
    del results
    found = {
        "figure4": _figure4(config, arrays, alt["figure4"]),
        "figure5": _figure5(config, arrays, alt["figure5"]),
    }
    everyone = _accuracy(
        "All arms: test accuracy", config["arms"], config, arrays, alt["controls"]
    )
    found["controls"] = [everyone]
    return found


def _arms(config, *names):
    return [name for name in names if name in config["arms"]]


def _figure4(config, arrays, alt):
    arms = _arms(config, "small", "large", "warmup")
    early = _arms(config, "large", "warmup", "freeze_fc")
    rates = [
        live.line(
            np.arange(config["epochs"]),
            arrays[f"{arm}/rate_rest"],
            WORDS[arm],
            _COLORS[arm],
        )
        for arm in arms
    ]
    span = (0.5, config["warmup_epochs"] + 0.5)
    return [
        _accuracy("(a) Test accuracy", arms, config, arrays, alt, "fig4a_val_acc"),
        live.lines(
            "(b) Learning rate", alt, rates, "epoch (from 0)", "learning rate", log=True
        ),
        _diagonals(arms, config, arrays, alt),
        _accuracy(
            "(d) Until the end of the warmup",
            early,
            config,
            arrays,
            alt,
            "fig4d_val_acc",
            span,
        ),
    ]


def _accuracy(title, arms, config, arrays, alt, table=None, span=None):
    traces = []
    for arm in arms:
        values = 100 * arrays[f"{arm}/test_accuracy"]
        epochs = 1 + np.arange(values.shape[1])
        traces.append(live.line(epochs, values, WORDS[arm], _COLORS[arm]))
    if table is not None:
        found = paper.table(f"closer_look/{table}")
        hidden = config["dataset"] != "cifar10"
        for arm in arms:
            place = found["epoch"] + 1, found[PAPER[arm]]
            words = f"paper: {WORDS[arm]}"
            traces.append(
                live.line(*place, words, live.GREY, hidden=hidden, group="paper")
            )
    axes = "epochs trained", "test accuracy (%)"
    return live.lines(title, alt, traces, *axes, span=span)


def _diagonals(arms, config, arrays, alt):
    places = np.arange(len(arrays["layers"]))
    traces = []
    for arm in arms:
        values = np.diagonal(arrays[f"{arm}/similarity"], axis1=-2, axis2=-1)
        traces.append(live.line(places, values, WORDS[arm], _COLORS[arm]))
    floor = np.diagonal(arrays["similarity_floor"])
    traces.append(live.line(places, floor, "noise floor", "#555555", dash="dot"))
    title = "(c) Each layer before against after the warmup"
    axes = "layer, from the input", f"similarity ({config['measure']})"
    return live.lines(title, alt, traces, *axes)


def _figure5(config, arrays, alt):
    layers = arrays["layers"].tolist()
    words = ("before:", "after:")
    panels = [
        live.heat(
            f"Ours, {WORDS[arm]}: before against after",
            alt,
            arrays[f"{arm}/similarity"].mean(0),
            layers,
            words=words,
        )
        for arm in _arms(config, "small", "large", "warmup")
    ]
    if "warmup/similarity_later" in arrays:
        values = arrays["warmup/similarity_later"].mean(0)
        title = "Ours, warmup: after it against the end"
        panels.append(live.heat(title, alt, values, layers, words=("after:", "end:")))
    for name, title in PAPER_MAPS.items():
        theirs = paper.similarity_map(f"closer_look/{name}")
        title = f"The paper's, {title} (mirrored)"
        panels.append(live.heat(title, alt, theirs.values, theirs.rows, words=words))
    return panels
