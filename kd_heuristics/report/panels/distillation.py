"""Figure 6 of Gotmare et al. 2019."""

from collections.abc import Mapping

import numpy as np

from kd_heuristics import paper
from kd_heuristics.plots import style
from kd_heuristics.report import live


def distillation(
    config: dict,
    results: dict,
    arrays: Mapping[str, np.ndarray],
    alt: Mapping[str, str],
):
    """`{"figure6": [panel, ...], ...}`."""
    del results
    arm = f"soft-{config['temperature']:g}"
    return {
        "figure6": _figure6(arm, arrays, alt["figure6"]),
        "layers": [_layers(arm, config, arrays, alt["layers"])],
    }


def _figure6(arm, arrays, alt):
    sides = arrays["teacher_layers"].tolist(), arrays["layers"].tolist()
    words = ("teacher's", "student's")
    taught, alone = arrays[f"map/{arm}"], arrays["map/independent"]
    panels = [
        live.heat("(a) Ours, soft targets", alt, taught.mean(0), *sides, words=words),
        live.heat("(b) Ours, labels", alt, alone.mean(0), *sides, words=words),
        _difference("(c) Ours, a - b", alt, (taught - alone).mean(0), sides, words),
    ]
    maps = [
        paper.similarity_map(f"closer_look/{name}")
        for name in ("fig6a_distilled_T", "fig6b_indep_T")
    ]
    theirs = maps[0].rows, maps[0].columns
    for letter, title, found in zip(
        "ab", ("soft targets", "labels"), maps, strict=True
    ):
        title = f"({letter}) The paper's, {title}"
        panels.append(live.heat(title, alt, found.values, *theirs, words=words))
    change = maps[0].values - maps[1].values
    panels.append(_difference("(c) The paper's, a - b", alt, change, theirs, words))
    return panels


def _difference(title, alt, values, sides, words):
    return live.heat(title, alt, values, *sides, words=words, signed=True)


def _layers(arm, config, arrays, alt):
    places = np.arange(len(arrays["layers"]))
    alone = arrays["map/independent"]
    kinds = {
        "soft targets": (f"map/{arm}", "solid"),
        **{kind: (f"map/{kind}", "solid") for kind in config["kinds"]},
        "null: another start": ("map/other_independent", "dash"),
    }
    traces = []
    for color, (words, (key, dash)) in zip(style.COLORS, kinds.items(), strict=False):
        change = np.abs(arrays[key] - alone).mean(1)
        traces.append(live.line(places, change, words, color, dash=dash))
    title = "Change against labels, by the student's layer"
    axes = "student's layer, from the input", "mean |difference| of similarity"
    return live.lines(title, alt, traces, *axes)
