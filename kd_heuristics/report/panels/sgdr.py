"""Figures 2, 3 and 11 to 14 of Gotmare et al. 2019."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from kd_heuristics import paper
from kd_heuristics.plots import style
from kd_heuristics.report import live

_ARMS = {"sgdr": "SGDR", "step": "step decay", "cosine": "one cosine"}
_PAPER_ARMS = {"sgdr": "SGDR", "step": "SGD_step_decay"}
_COLORS = dict(zip(_ARMS, style.COLORS, strict=False))


def sgdr(
    config: dict,
    results: dict,
    arrays: Mapping[str, np.ndarray],
    alt: Mapping[str, str],
):
    """`{"figure2": [panel, ...], ...}`."""
    del results
    hidden = config["dataset"] != "cifar10"  # another task: on demand only
    found = {
        "figure2": _figure2(config, arrays, alt["figure2"], hidden),
        "figure11": _figure11(config, arrays, alt["figure11"]),
        "figure14": _figure14(config, arrays, alt["figure14"]),
    }
    names = ("figure3", "figures12_13")
    for name, pair in zip(names, config["planes"], strict=False):
        found[name] = [_plane(pair, arrays, alt[name])]
    return found


def _figure2(config, arrays, alt, hidden):
    accuracy, rates = [], []
    for arm, words in _ARMS.items():
        values = 100 * arrays[f"{arm}/test_accuracy"]
        epochs = np.arange(values.shape[1])
        accuracy.append(live.line(epochs, values, words, _COLORS[arm]))
        rate = arrays[f"{arm}/rate_epoch"], arrays[f"{arm}/rate"]
        rates.append(live.line(*rate, words, _COLORS[arm]))
    table = paper.table("closer_look/fig2a_test_acc")
    for arm, column in _PAPER_ARMS.items():
        words = f"paper: {_ARMS[arm]}"
        place = table["epoch"], table[column]
        accuracy.append(
            live.line(
                *place, words, live.GREY, mode="markers", hidden=hidden, group="paper"
            )
        )
    return [
        live.lines(
            "(a) Test accuracy", alt, accuracy, "epoch (from 0)", "accuracy (%)"
        ),
        live.lines("(b) Learning rate", alt, rates, "epoch (from 0)", "learning rate"),
        _paths("(c) SGDR: between its iterates", "sgdr", config, arrays, alt, hidden),
        _paths("(d) Step decay: likewise", "step", config, arrays, alt, hidden),
    ]


def _paths(title, arm, config, arrays, alt, hidden):
    traces = _along(arm, config, arrays, "train_loss", 1)
    table = paper.table("closer_look/fig2cd_train_loss")
    run = _PAPER_ARMS[arm].split("_")[0]
    for pair in dict.fromkeys(table["pair"][table["run"] == run]):
        rows = (table["run"] == run) & (table["pair"] == pair)
        for column, dash in (("segment", "dash"), ("mc_curve", "solid")):
            words = f"paper: {pair}, {'segment' if dash == 'dash' else 'chain'}"
            place = table["t"][rows], table[column][rows]
            options = {"dash": dash, "hidden": hidden, "group": "paper"}
            traces.append(live.line(*place, words, live.GREY, **options))
    axes = "t along the path", "train loss (nats, log scale)"
    return live.lines(title, alt, traces, *axes, log=True)


def _along(arm, config, arrays, metric, scale):
    traces = []
    for color, (a, b) in zip(style.COLORS, config[f"{arm}_pairs"], strict=False):
        for path, dash in (("segment", "dash"), ("chain", "solid")):
            values = scale * arrays[f"{arm}/{a}-{b}/{path}/{metric}"]
            words = f"w{a} to w{b}, {path}"
            traces.append(live.line(arrays["t"], values, words, color, dash=dash))
    return traces


def _figure11(config, arrays, alt):
    metrics = (
        ("train_accuracy", "train accuracy (%)", 100),
        ("test_accuracy", "test accuracy (%)", 100),
        ("test_loss", "test loss (nats, log scale)", 1),
    )
    return [
        live.lines(
            f"{words}: {label.partition(' (')[0]}",
            alt,
            _along(arm, config, arrays, metric, scale),
            "t along the path",
            label,
            log=scale == 1,
        )
        for arm, words in (("sgdr", "SGDR"), ("step", "Step decay"))
        for metric, label, scale in metrics
    ]


def _figure14(config, arrays, alt):
    layers = arrays["layers"].tolist()
    restart, first = config["map_pairs"]
    maps = {name: arrays[f"maps/{name}"].mean(0) for name in ("restart", "first-last")}
    panels: list[Any] = [
        live.heat(f"Ours: {a} against {b}", alt, values, layers, words=_epochs(a, b))
        for (a, b), values in zip((restart, first), maps.values(), strict=True)
    ]
    change = maps["restart"] - maps["first-last"]
    panels.append(live.heat("Their difference", alt, change, layers, signed=True))
    for name, (a, b) in (
        ("fig14a_sgdr_150_155", (150, 155)),
        ("fig14b_sgdr_10_150", (10, 150)),
    ):
        theirs = paper.similarity_map(f"closer_look/{name}")
        title = f"The paper's: {a} against {b} (one triangle, mirrored)"
        panels.append(
            live.heat(title, alt, theirs.values, theirs.rows, words=_epochs(a, b))
        )
    return panels


def _epochs(a, b):
    return f"epoch {a}:", f"epoch {b}:"


def _plane(pair, arrays, alt):
    key = f"plane-{pair[0]}-{pair[1]}"
    names = (f"w{pair[0]}", f"w{pair[1]}", "bend")
    marks = dict(zip(names, arrays[f"{key}/anchors"].tolist(), strict=True))
    for epoch, place in zip(
        arrays[f"{key}/epochs"], arrays[f"{key}/affine"].tolist(), strict=True
    ):
        marks[f"w{epoch}"] = place
    losses = {part: arrays[f"{key}/{part}_loss"] for part in ("train", "test")}
    title = f"The plane of w{pair[0]}, w{pair[1]} and the bend between them"
    return live.surface(
        title, alt, arrays[f"{key}/xs"], arrays[f"{key}/ys"], losses, marks
    )
