"""Figure 3 of Yim et al. 2017."""

from collections.abc import Mapping

import numpy as np

from kd_heuristics.plots import style
from kd_heuristics.report import live

_CURVES = {
    "teacher": "full training",
    "teacher_fast": "a third of it",
    "fitnet": "hints first",
    "student": "flow matrices first",
}


def fsp(
    config: dict,
    results: dict,
    arrays: Mapping[str, np.ndarray],
    alt: Mapping[str, str],
):
    """`{"figure3": [panel, ...]}`."""
    del config, results
    loss, accuracy = [], []
    for color, (arm, words) in zip(style.COLORS, _CURVES.items(), strict=False):
        steps = arrays[f"{arm}/step"]
        if arm != "fitnet":  # whose loss has soft targets in it
            values = arrays[f"{arm}/loss"].mean(1)
            loss.append(live.line(steps, values, words, color))
        values = 100 * arrays[f"{arm}/test_accuracy"].mean(1)
        accuracy.append(live.line(steps, values, words, color))
    x = "steps of the last stage"
    return {
        "figure3": [
            live.lines(
                "(a) Training loss",
                alt["figure3"],
                loss,
                x,
                "nats (log scale)",
                log=True,
            ),
            live.lines("(b) Test", alt["figure3"], accuracy, x, "test accuracy (%)"),
        ]
    }
