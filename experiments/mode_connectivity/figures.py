"""Figures of the mode connectivity study: 1, 7 to 10, and the kinds of curve."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.common import charts, paper
from experiments.common.charts import Arrays
from kd_heuristics.plots import Axis, Chart, Figure, Reference, Series, style

# Figures along the curves: axis, digitised table, claims.
ALONG = {
    "figure1": (Axis("test accuracy", "%"), "fig1_val_acc", ["worst-minus-end"]),
    "figure7": (Axis("test loss", "nats", "log"), "fig7_val_loss", ["bend-loss"]),
    "figure8": (Axis("train accuracy", "%"), "fig8_train_acc", []),
    "figure9": (Axis("train loss", "nats", "log"), "fig9_train_loss", []),
}
KINDS = {"chain": "chain", "decayed": "chain, decay on bend", "bezier": "Bézier"}
COLORS = dict(zip(KINDS, style.COLORS, strict=False))
T = Axis("t along the curve")
MAPS = 3  # largest number of seeds shown


def figures(config: dict, results: dict, arrays: Arrays) -> dict[str, Figure]:
    """Returns all figures of a run."""
    del results
    pairs = [f"G{mode}" for mode in config["modes"][1:]]
    lens = {"alignment": aligned(pairs, config, arrays)} if config["aligned"] else {}
    return {
        **{name: along(name, pairs, config, arrays) for name in ALONG},
        "figure10": figure10(pairs, config, arrays),
        "kinds": kinds(pairs, config, arrays),
        "epochs": epochs(pairs, config, arrays),
        **lens,
    }


def _grid(pairs: Sequence[str]) -> dict[str, Any]:
    """Returns the paper's layout: one panel for each pair, three in a row."""
    columns = min(3, len(pairs))
    size = {"columns": columns, "width": 3.4 * columns, "height": 2.7}
    return size | {"legend_below": True}


def _title(pair: str) -> str:
    return f"{pair}: from G (t = 0) to {pair[1]} (t = 1)"


def _segment(pair: str, metric: str, arrays: Arrays) -> Series:
    values = _scaled(arrays[f"{pair}/segment/{metric}"], metric)
    return Series(arrays["t"], values, "segment", style.DARK, line="dot")


def _scaled(values: Any, metric: str) -> Any:
    """Converts accuracies to per cent; leaves losses unchanged."""
    return 100 * values if metric.endswith("accuracy") else values


def along(name: str, pairs: Sequence[str], config: dict, arrays: Arrays) -> Figure:
    """Plots chains after several epochs of fitting, and segments."""
    y, table, claims = ALONG[name]
    metric = y.label.replace(" ", "_")
    panels = []
    for letter, pair in zip("abcdef", pairs, strict=False):
        values = _scaled(arrays[f"{pair}/chain/{metric}"], metric)
        series = [
            Series(arrays["t"], values[:, k], f"epoch {epoch}", style.COLORS[k % 6])
            for k, epoch in enumerate(config["curve_epochs"])
        ]
        series.append(_segment(pair, metric, arrays))
        series += _papers(pair, table, config["dataset"] != "cifar10")
        title = f"({letter}) {_title(pair)}"
        panels.append(Chart(title, T, y, series, legend=False))
    title = f"Figure {name.removeprefix('figure')}"
    caption = f"{title}: {y.label} along the curves"
    return Figure(title, caption, panels, claims, **_grid(pairs))


def _papers(pair: str, table: str, hidden: bool) -> list[Series]:
    """Makes the paper's curves of a pair, one for each epoch of fitting."""
    found = paper.table(f"mode_connectivity/{table}")
    columns = [name for name in found if name[0] == "0"]
    return [
        Series(
            [float(name) for name in columns],
            [found[name][row] for name in columns],
            f"paper: epoch {found['mc_epoch'][row]:.0f}",
            paper=True,
            hidden=hidden,
        )
        for row in np.flatnonzero(found["curve"] == pair)
    ]


def figure10(pairs: Sequence[str], config: dict, arrays: Arrays) -> Figure:
    """Plots the t-SNE of modes and bends, one panel for each seed."""
    maps = arrays["map"][:MAPS]
    panels = [
        Chart(
            f"seed {config['first_seed'] + seed}",
            Axis("t-SNE coordinates (no unit)", bare=True),
            Axis(bare=True),
            _ways(places, pairs),
            legend=False,
        )
        for seed, places in enumerate(maps)
    ]
    title = "Figure 10: t-SNE of modes (circles) and bends (squares)"
    size = {"columns": len(maps), "width": 4.2 * len(maps), "height": 3.8}
    return Figure(title, "Figure 10: t-SNE of modes and bends", panels, **size)


def _ways(places: np.ndarray, pairs: Sequence[str]) -> list[Series]:
    """Makes lines from G through each bend to the other mode."""
    start, ends, bends = places[0], places[1 : 1 + len(pairs)], places[1 + len(pairs) :]

    def mark(place, color, **own):
        return charts.through(place, "", color, line="none", **own)

    series = []
    for color, pair, end, bend in zip(style.COLORS, pairs, ends, bends, strict=False):
        series += [
            charts.through([start, bend, end], f"G, bend, {pair[1]}", color),
            mark(bend, color, marker="s"),
            mark(end, color, marker="o", labels=[pair[1]]),
        ]
    return [*series, mark(start, style.DARK, marker="*", labels=["G"])]


def kinds(pairs: Sequence[str], config: dict, arrays: Arrays) -> Figure:
    """Plots the kinds of curve after fitting."""
    panels = []
    for pair in pairs:
        segment = _segment(pair, "test_accuracy", arrays)
        worse = segment.mean[[0, -1]].min() - 100 * config["as_good_as"]
        series = []
        for kind in config["kinds"]:
            values = 100 * arrays[f"{pair}/{kind}/test_accuracy"][:, -1]
            series.append(Series(arrays["t"], values, KINDS[kind], COLORS[kind]))
        y = Axis("test accuracy", "%")
        line = Reference(worse, "lowest accuracy as good as the worse end")
        series.append(segment)
        panels.append(Chart(_title(pair), T, y, series, [line], legend=False))
    title = f"Kinds of curve after {config['curve_epochs'][-1]} epochs"
    caption = "Test accuracy along each kind of curve"
    return Figure(title, caption, panels, ["worst-minus-segment"], **_grid(pairs))


def aligned(pairs: Sequence[str], config: dict, arrays: Arrays) -> Figure:
    """Plots segments before and after alignment, beside the fitted chains."""
    panels = []
    for pair in pairs:
        series = [_segment(pair, "test_accuracy", arrays)]
        found = {f"aligned by {m}": f"aligned-{m}" for m in config["aligned"]}
        for color, (words, kind) in zip(style.COLORS[1:], found.items(), strict=False):
            values = 100 * arrays[f"{pair}/{kind}/test_accuracy"]
            series.append(Series(arrays["t"], values, words, color, line="dash"))
        chain = 100 * arrays[f"{pair}/chain/test_accuracy"][:, -1]
        series.append(Series(arrays["t"], chain, "chain", COLORS["chain"]))
        y = Axis("test accuracy", "%")
        panels.append(Chart(_title(pair), T, y, series, legend=False))
    caption = (
        "Segments before and after the other mode's units are put in G's order (git "
        "re-basin, Ainsworth et al. 2022), beside chains; batch norm's statistics, if "
        "any, are estimated anew at each point (REPAIR, Jordan et al. 2022)"
    )
    title = "Segments after alignment"
    return Figure(title, caption, panels, ["alignment"], **_grid(pairs))


def epochs(pairs: Sequence[str], config: dict, arrays: Arrays) -> Figure:
    """Plots the worst point and the bend of each curve against epochs of fitting."""
    found = config["curve_epochs"]
    x = Axis("epochs of fitting", ticks=found)
    half = int(np.searchsorted(arrays["t"], 0.5))
    worst = []
    for color, pair in zip(style.COLORS, pairs, strict=False):
        values = 100 * arrays[f"{pair}/chain/test_accuracy"][..., 1:-1].min(-1)
        worst.append(Series(found, values, pair, color, marker="o"))
    worst += [_papers_worst(pair, config["dataset"] != "cifar10") for pair in pairs]

    def bends(part, title):
        series = []
        for kind in config["kinds"]:
            losses = [arrays[f"{pair}/{kind}/{part}_loss"][..., half] for pair in pairs]
            values = np.mean(losses, axis=0)
            series.append(Series(found, values, KINDS[kind], COLORS[kind], marker="o"))
        return Chart(title, x, Axis(f"{part} loss at t = 1/2", "nats"), series)

    panels = [
        Chart("Worst point of each chain", x, Axis("worst test accuracy", "%"), worst),
        bends("test", "Bend on the test set, mean of pairs"),
        bends("train", "Bend on the training set, mean of pairs"),
    ]
    title, claims = "Curves during fitting", ["worst-by-epochs", "bend-loss"]
    return Figure(title, title, panels, claims, columns=3, width=11.0, height=3.4)


def _papers_worst(pair: str, hidden: bool) -> Series:
    """Makes the paper's worst point of a pair against epochs of fitting."""
    found = paper.table("mode_connectivity/fig1_val_acc")
    rows = found["curve"] == pair
    columns = [values[rows] for name, values in found.items() if name[0] == "0"]
    place = found["mc_epoch"][rows], np.nanmin(columns, axis=0)
    return Series(*place, f"paper: {pair}", paper=True, hidden=hidden)
