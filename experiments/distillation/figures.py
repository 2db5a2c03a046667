"""Figures of the distillation study: the paper's Figure 6, layers, temperatures."""

import itertools
from typing import Any

import numpy as np

from experiments.common import charts, fidelity, measures, paper
from experiments.common.charts import Arrays
from experiments.distillation import table
from kd_heuristics.plots import Axis, Chart, Figure, HeatMap, Series, style

WORDS = {
    "independent": "labels",
    "hint": "hints, then labels",
    "fsp": "flow matrices, then labels",
    "null": "null: labels, another start",
    "unpaired": "soft targets, another start",
    "second teacher": "null: towards another teacher",
    "teacher": "teacher",
    "another-teacher": "null: another teacher's soft targets",
    "random-teacher": "null: an untrained teacher's, equal entropy",
    "smoothing": "null: smoothed labels, equal entropy",
    "permuted": "null: permuted dark knowledge",
}
NULLS = {"null": "#999999", "unpaired": "#8C510A", "second teacher": style.DARK}


def figures(config: dict, results: dict, arrays: Arrays) -> dict[str, Figure]:
    """Returns all figures of a run."""
    found = {"losses": table.figure(results)} if config["losses"] else {}
    return found | {
        "figure6": figure6(config, arrays),
        "layers": layers(config, arrays),
        "measures": other_measures(config, results, arrays),
        "temperatures": temperatures(config, arrays),
        "fidelity": fidelity.figure({arm: _name(arm) for arm in _arms(config)}, arrays),
    }


def _arms(config: dict) -> list[str]:
    """Returns the arms, in order."""
    soft = [f"soft-{temperature:g}" for temperature in config["temperatures"]]
    return ["independent", *soft, *config["kinds"], *config["nulls"]]


def _taught(config: dict) -> str:
    """Returns the arm of soft targets that is compared with the paper's."""
    return f"soft-{config['temperature']:g}"


def _changes(config: dict, arrays: Arrays) -> dict[str, np.ndarray]:
    """Computes signed changes of the taught arm and nulls, [seeds, rows, columns]."""
    taught, alone = arrays[f"map/{_taught(config)}"], arrays["map/independent"]
    second = arrays["map/second/distilled"] - arrays["map/second/independent"]
    other = arrays["map/other_independent"]
    return {
        _taught(config): taught - alone,
        "null": other - alone,
        "unpaired": other - taught,
        "second teacher": second,
    }


def _name(arm: str) -> str:
    """Returns the display name of an arm or a null."""
    known = WORDS.get(arm)
    return known if known else f"soft targets, T = {arm.removeprefix('soft-')}"


def figure6(config: dict, arrays: Arrays) -> Figure:
    """Draws both students' maps, their differences, the nulls and the paper's maps."""
    arm, measure = _taught(config), config["measure"]
    changes = _changes(config, arrays)
    found = {kind: changes[kind].mean(0) for kind in (arm, "second teacher")}
    sizes = {kind: np.abs(changes[kind]).mean(0) for kind in (arm, "null")}
    limit = max(np.abs(values).max() for values in (*sizes.values(), *found.values()))
    both = {"limit": float(limit)}
    signed = both | {"scale": "signed", "label": f"difference of {measure}"}
    size = both | {"scale": "size", "label": "its absolute value (c, e)"}
    sides = arrays["teacher_layers"], arrays["layers"]
    taught, alone = (arrays[f"map/{name}"].mean(0) for name in (arm, "independent"))
    panels = [
        _map(f"(a) {_name(arm)}", taught, *sides, label=measure),
        _map("(b) labels", alone, *sides, label=measure),
        _map("(c) |a - b|", sizes[arm], *sides, **size),
        _map("(d) a - b", found[arm], *sides, **signed),
        _map("(e) |b - another start's b|", sizes["null"], *sides, **size),
        _map("(f) a - b, another teacher", found["second teacher"], *sides, **signed),
        *_papers_maps(),
    ]
    caption = "Figure 6: similarity of the student's layers to the teacher's"
    shape = {"columns": 6, "width": 12.0, "height": 6.0}
    return Figure("Figure 6, mean over seeds", caption, panels, ["fc-change"], **shape)


def _map(title: str, values: Any, rows: Any, columns: Any, **options: Any) -> HeatMap:
    """Makes a map of teacher layers (rows) and student layers (columns)."""
    names = list(map(str, rows)), list(map(str, columns))
    axes = {"y": "teacher layer", "x": "student layer"}
    return HeatMap(title, values, *names, **axes, square=False, **options)


def other_measures(config: dict, results: dict, arrays: Arrays) -> Figure:
    """Plots the map of the student of soft targets by every measure."""
    sides = arrays["teacher_layers"], arrays["layers"]

    def draw(title: str, values: np.ndarray, **own: Any) -> HeatMap:
        return _map(title, values, *sides, **own)

    return measures.figure(config, results, arrays, f"map/{_taught(config)}", draw)


def _papers_maps() -> list[HeatMap]:
    """Makes the paper's maps, for the page only."""
    a, b = (
        paper.similarity_map(f"distillation/{name}")
        for name in ("fig6a_distilled_T", "fig6b_indep_T")
    )
    found = (
        ("(a) Paper: soft targets", a.values, "similarity"),
        ("(b) Paper: labels", b.values, "similarity"),
        ("(d) Paper: a - b", a.values - b.values, "signed"),
    )
    return [
        _map(title, values, a.rows, a.columns, scale=scale, still=False, paper=True)
        for title, values, scale in found
    ]


def layers(config: dict, arrays: Arrays) -> Figure:
    """Draws each student layer's change, by kind of knowledge and for the nulls."""
    alone = arrays["map/independent"]
    taught = (_taught(config), *config["kinds"])
    others = (*config["kinds"], *config["nulls"])
    kinds = _changes(config, arrays) | {
        kind: arrays[f"map/{kind}"] - alone for kind in others
    }
    own = (*taught, *config["nulls"])
    colors = dict(zip(own, itertools.cycle(style.COLORS), strict=False)) | NULLS
    absolute, signed = [], []
    for kind, values in kinds.items():
        own = _name(kind), colors[kind]
        line = "solid" if kind in taught else "dash"
        sizes = np.abs(values).mean(1)
        absolute.append(charts.along_layers(sizes, *own, line=line))
        if kind not in ("null", "unpaired"):  # their sign is the order of a pair
            signed.append(charts.along_layers(values.mean(1), *own, line=line))
    if _has_papers_layers(config):
        change = _papers_maps()[-1].values
        own = "paper", style.GREY
        sizes = np.abs(change).mean(0)
        absolute.append(charts.along_layers(sizes, *own, paper=True))
        signed.append(charts.along_layers(change.mean(0), *own, paper=True))
    x = charts.layers_axis("student layer", arrays["layers"])
    y = Axis(f"{config['measure']}, mean over teacher layers")
    titles = (
        "(a) Absolute change against labels",
        "(b) Signed change (positive: more like the teacher)",
    )
    panels = [
        Chart(title, x, y, series, legend=False)
        for title, series in zip(titles, (absolute, signed), strict=True)
    ]
    caption = "Layers that distillation changes, and the null changes"
    size = {"width": 9.5, "height": 3.8, "legend_below": True}
    return Figure("Where knowledge lands", caption, panels, ["fc-layers"], **size)


def _has_papers_layers(config: dict) -> bool:
    """Whether both networks and the data are the paper's."""
    nets = config["dataset"], config["teacher"], config["model"]
    return nets == ("cifar10", "vgg16", "shallow")


def temperatures(config: dict, arrays: Arrays) -> Figure:
    """Draws final accuracy and the change by layer, at each temperature."""
    found = config["temperatures"]
    ends = min(found) / 1.1, max(found) * 1.1  # of one temperature, a short line too
    soft = [100 * arrays[f"soft-{t:g}/test_accuracy"][:, -1] for t in found]
    own = "soft targets", style.COLORS[0]
    accuracy = [Series(found, np.stack(soft, 1), *own, marker="o")]
    others = ("independent", *config["kinds"], *config["nulls"], "teacher")
    colors = itertools.cycle((*style.COLORS[1:], style.DARK))
    for color, arm in zip(colors, others, strict=False):
        final = 100 * arrays[f"{arm}/test_accuracy"][:, -1]
        level = np.repeat(final[:, None], 2, 1)
        accuracy.append(Series(ends, level, _name(arm), color, line="dash"))
    changes = []
    for color, t in zip(style.COLORS, found, strict=False):
        change = np.abs(arrays[f"map/soft-{t:g}"] - arrays["map/independent"])
        changes.append(charts.along_layers(change.mean(1), f"T = {t:g}", color))
    panels = [
        Chart(
            "(a) Final test accuracy",
            Axis("temperature", scale="log", ticks=found),
            Axis("test accuracy", "%"),
            accuracy,
        ),
        Chart(
            "(b) Change against labels, by layer",
            charts.layers_axis("student layer", arrays["layers"]),
            Axis(f"|change| of {config['measure']}"),
            changes,
        ),
    ]
    size = {"width": 9.5, "height": 3.6}
    return Figure("Temperatures", "Temperatures", panels, ["accuracy"], **size)
