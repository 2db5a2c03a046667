"""Figures 1, 2 and 4 of Beyer et al. 2022: patience."""

from collections.abc import Mapping

import numpy as np

from kd_heuristics import paper
from kd_heuristics.plots import style
from kd_heuristics.report import live

_WORDS = {
    "fix/cc": "fixed, central crop",
    "ind/ic": "independent inception crops",
    "same/ic": "same inception crop",
    "mix": "same crop, mixup (FunMatch)",
    "labels": "labels",
    "labels+mixup": "labels, mixup",
}
_COLORS = dict(zip(_WORDS, style.COLORS, strict=True))


def funmatch(
    config: dict,
    results: dict,
    arrays: Mapping[str, np.ndarray],
    alt: Mapping[str, str],
):
    """`{"patience": [panel, ...], ...}`."""
    return {
        "patience": _patience(config, results, alt["patience"]),
        "curves": _curves(config, arrays, alt["curves"]),
    }


def _patience(config, results, alt):
    panels = []
    for key, title, label, scale in (
        ("test_accuracy", "(a) Ours: test accuracy", "test accuracy (%)", 100),
        ("test_kl", "(b) Ours: distance from the teacher", "KL (nats), test", 1),
    ):
        traces = []
        for arm in config["main"]:
            lengths = results["arms"][arm]
            # Null, of a student that diverged, is NaN.
            values = np.array([run[key]["values"] for run in lengths.values()], float)
            epochs = [int(length) for length in lengths]
            traces.append(_line(arm, epochs, scale * values.T))
        panels.append(live.lines(title, alt, traces, "epochs", label, log_x=True))
    columns = paper.table("funmatch/table3")
    epochs = [int(key) for key in columns if key != "run"]
    traces = []
    for index, run in enumerate(columns["run"]):
        if str(run) in _WORDS:
            values = np.array([columns[str(key)][index] for key in epochs])
            known = np.isfinite(values)
            traces.append(_line(str(run), np.array(epochs)[known], values[known]))
    axes = "epochs", "accuracy (%)"
    title = "(c) The paper's, ImageNet"
    return [*panels, live.lines(title, alt, traces, *axes, log_x=True)]


def _line(arm, epochs, values):
    words, color = _WORDS.get(arm, arm), _COLORS.get(arm, live.GREY)
    return live.line(epochs, values, words, color, mode="lines+markers")


def _curves(config, arrays, alt):
    epochs = config["settings"][-1]["epochs"]
    panels = []
    for key, title, label, scale in (
        ("kl", "(a) On the training views", "KL (nats), training", 1),
        ("validation_kl", "(b) On validation images", "KL (nats), validation", 1),
        ("validation_accuracy", "(c) Accuracy", "validation accuracy (%)", 100),
    ):
        traces = []
        for arm in config["main"]:
            stage = f"{arm.replace('/', '-')}@{epochs}"
            if f"{stage}/{key}" in arrays:
                values = scale * arrays[f"{stage}/{key}"]
                words, color = _WORDS.get(arm, arm), _COLORS.get(arm, live.GREY)
                traces.append(live.line(arrays[f"{stage}/step"], values, words, color))
        panels.append(live.lines(title, alt, traces, "steps", label, log=scale == 1))
    return panels
