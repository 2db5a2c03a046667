"""Figures 1 and 7 to 10 of Gotmare et al. 2019."""

from collections.abc import Mapping

import numpy as np

from kd_heuristics import paper
from kd_heuristics.plots import style
from kd_heuristics.report import live

_FIGURES = {
    "figure1": ("test_accuracy", "test accuracy (%)", "fig1_val_acc"),
    "figure7": ("test_loss", "test loss (nats, log scale)", "fig7_val_loss"),
    "figure8": ("train_accuracy", "train accuracy (%)", "fig8_train_acc"),
    "figure9": ("train_loss", "train loss (nats, log scale)", "fig9_train_loss"),
}
_KINDS = {"chain": "chain", "decayed": "chain, decay on bend", "bezier": "Bezier"}


def mode_connectivity(
    config: dict,
    results: dict,
    arrays: Mapping[str, np.ndarray],
    alt: Mapping[str, str],
):
    """`{"figure1": [panel, ...], ...}`."""
    del results
    pairs = [f"G{mode}" for mode in config["modes"][1:]]
    found = {
        name: [_along(name, pair, config, arrays, alt[name]) for pair in pairs]
        for name in _FIGURES
    }
    found["kinds"] = [_kinds(pair, arrays, alt["kinds"]) for pair in pairs]
    found["figure10"] = [
        _map(seed, places, config, alt["figure10"])
        for seed, places in enumerate(arrays["map"][:3])
    ]
    return found


def _scaled(values, metric):
    return 100 * values if metric.endswith("accuracy") else values


def _along(name, pair, config, arrays, alt):
    metric, label, table = _FIGURES[name]
    values = _scaled(arrays[f"{pair}/chain/{metric}"], metric)
    traces = [
        live.line(arrays["t"], values[:, k], f"epoch {epoch}", style.COLORS[k % 6])
        for k, epoch in enumerate(config["curve_epochs"])
    ]
    segment = _scaled(arrays[f"{pair}/segment/{metric}"], metric)
    traces.append(live.line(arrays["t"], segment, "segment", "#555555", dash="dot"))
    traces += _papers(pair, table, config["dataset"] != "cifar10")
    log = metric.endswith("loss")
    title = f"{pair}: from G (t = 0) to {pair[1]} (t = 1)"
    return live.lines(title, alt, traces, "t along the curve", label, log=log)


def _papers(pair, table, hidden):
    found = paper.table(f"closer_look/{table}")
    ts = [column for column in found if column[0] == "0"]
    return [
        live.line(
            [float(t) for t in ts],
            [found[column][row] for column in ts],
            f"paper: epoch {found['mc_epoch'][row]:.0f}",
            live.GREY,
            hidden=hidden,
            group="paper",
        )
        for row in np.flatnonzero(found["curve"] == pair)
    ]


def _kinds(pair, arrays, alt):
    traces = []
    for color, (kind, words) in zip(style.COLORS, _KINDS.items(), strict=False):
        values = 100 * arrays[f"{pair}/{kind}/test_accuracy"][:, -1]
        traces.append(live.line(arrays["t"], values, words, color))
    segment = 100 * arrays[f"{pair}/segment/test_accuracy"]
    traces.append(live.line(arrays["t"], segment, "segment", "#555555", dash="dot"))
    axes = "t along the curve", "test accuracy (%)"
    return live.lines(f"{pair}, after the last epoch", alt, traces, *axes)


def _map(seed, places, config, alt):
    modes = config["modes"]
    ends, bends = places[: len(modes)], places[len(modes) :]
    traces = []
    for color, mode, end, bend in zip(
        style.COLORS, modes[1:], ends[1:], bends, strict=False
    ):
        x, y = np.stack([ends[0], bend, end]).T
        words = f"G, bend, {mode}"
        traces.append(live.line(x, y, words, color, mode="lines+markers"))
    title = f"t-SNE of modes and bends, seed {config['first_seed'] + seed}"
    return live.lines(title, alt, traces, "no unit", "no unit")
