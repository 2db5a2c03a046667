"""The figures of the mode connectivity study: 1 and 7 to 10, and the kinds of curve."""

from collections.abc import Mapping, Sequence

import numpy as np

from kd_heuristics import paper
from kd_heuristics.plots import style
from kd_heuristics.plots.figure import Axis, Chart, Figure, Panel, Reference, Series

Arrays = Mapping[str, np.ndarray]

ACCURACY = {"unit": "%"}
LOSS = {"unit": "nats", "scale": "log"}
# What each figure shows along the curves: metric, words, axis, digitised table, claims.
ALONG = {
    "figure1": ("test accuracy", ACCURACY, "fig1_val_acc", ("worst-minus-end",)),
    "figure7": ("test loss", LOSS, "fig7_val_loss", ("bend-loss",)),
    "figure8": ("train accuracy", ACCURACY, "fig8_train_acc", ()),
    "figure9": ("train loss", LOSS, "fig9_train_loss", ()),
}
KINDS = {"chain": "chain", "decayed": "chain, decay on bend", "bezier": "Bezier"}
COLORS = dict(zip(KINDS, style.COLORS, strict=False))
T = Axis(label="t along the curve")
MAPS = 3  # at most so many seeds


def figures(config: dict, results: dict, arrays: Arrays) -> dict[str, Figure]:
    """All figures of a run."""
    del results
    pairs = [f"G{mode}" for mode in config["modes"][1:]]
    return {
        **{name: along(name, pairs, config, arrays) for name in ALONG},
        "figure10": figure10(pairs, config, arrays),
        "kinds": kinds(pairs, config, arrays),
        "epochs": epochs(pairs, config, arrays),
    }


def _grid(pairs: Sequence[str]) -> dict:
    """A panel a pair in rows of three, as in the paper."""
    columns = min(3, len(pairs))
    size = {"columns": columns, "width": 3.4 * columns, "height": 2.7}
    return size | {"legend_below": True}


def _title(pair: str, letter: str = "") -> str:
    words = f"{pair}: from G (t = 0) to {pair[1]} (t = 1)"
    return f"({letter}) {words}" if letter else words


def _segment(pair: str, metric: str, arrays: Arrays) -> Series:
    values = _scaled(arrays[f"{pair}/segment/{metric}"], metric)
    return Series(x=arrays["t"], y=values, name="segment", color=style.DARK, line="dot")


def _scaled(values, metric):
    return 100 * values if metric.endswith("accuracy") else values


def along(name: str, pairs: Sequence[str], config: dict, arrays: Arrays) -> Figure:
    """The chains after several epochs of fitting, and the segments."""
    words, axis, table, claims = ALONG[name]
    metric = words.replace(" ", "_")
    hidden = config["dataset"] != "cifar10"
    panels = []
    for letter, pair in zip("abcdef", pairs, strict=False):
        values = _scaled(arrays[f"{pair}/chain/{metric}"], metric)
        chains = [
            Series(
                x=arrays["t"],
                y=values[:, index],
                name=f"epoch {epoch}",
                color=style.COLORS[index % len(style.COLORS)],
            )
            for index, epoch in enumerate(config["curve_epochs"])
        ]
        segment = _segment(pair, metric, arrays)
        panels.append(
            Chart(
                title=_title(pair, letter),
                x=T,
                y=Axis(label=words, **axis),
                series=(*chains, segment, *_papers(pair, table, hidden)),
                legend=False,
            )
        )
    number = name.removeprefix("figure")
    return Figure(
        title=f"Figure {number}",
        caption=f"Figure {number}: {words} along the curves",
        claims=claims,
        panels=tuple(panels),
        **_grid(pairs),
    )


def _papers(pair: str, table: str, hidden: bool) -> list[Series]:
    found = paper.table(f"closer_look/{table}")
    ts = [column for column in found if column[0] == "0"]
    return [
        Series(
            x=[float(t) for t in ts],
            y=[found[column][row] for column in ts],
            name=f"paper: epoch {found['mc_epoch'][row]:.0f}",
            paper=True,
            hidden=hidden,
        )
        for row in np.flatnonzero(found["curve"] == pair)
    ]


def figure10(pairs: Sequence[str], config: dict, arrays: Arrays) -> Figure:
    """t-SNE of modes and bends, a panel a seed."""
    count = len(config["modes"])
    maps = arrays["map"][:MAPS]

    def panel(seed, places) -> Panel:
        start, series = places[0], []
        for color, pair, end, bend in zip(
            style.COLORS, pairs, places[1:count], places[count:], strict=False
        ):
            own = {"color": color, "name": f"G, bend, {pair[1]}"}
            x, y = np.stack([start, bend, end]).T
            series.append(Series(x=x, y=y, **own))
            mark = {"color": color, "line": "none"}
            series.append(Series(x=bend[:1], y=bend[1:], marker="s", **mark))
            name = {"marker": "o", "labels": (pair[1],)}
            series.append(Series(x=end[:1], y=end[1:], **name, **mark))
        first = {"marker": "*", "labels": ("G",), "color": style.DARK, "line": "none"}
        series.append(Series(x=start[:1], y=start[1:], **first))
        return Chart(
            title=f"seed {config['first_seed'] + seed}",
            x=Axis(label="no unit", bare=True),
            y=Axis(bare=True),
            series=tuple(series),
            legend=False,
        )

    return Figure(
        title="Figure 10: t-SNE of modes (circles) and bends (squares)",
        caption="Figure 10: t-SNE of modes and bends",
        panels=tuple(panel(*item) for item in enumerate(maps)),
        columns=len(maps),
        width=4.2 * len(maps),
        height=3.8,
    )


def kinds(pairs: Sequence[str], config: dict, arrays: Arrays) -> Figure:
    """The kinds of curve at the end of their fitting."""
    panels = []
    for pair in pairs:
        segment = _segment(pair, "test_accuracy", arrays)
        ends = np.atleast_2d(segment.y)[:, [0, -1]].mean(0)
        series = [
            Series(
                x=arrays["t"],
                y=100 * arrays[f"{pair}/{kind}/test_accuracy"][:, -1],
                name=words,
                color=COLORS[kind],
            )
            for kind, words in KINDS.items()
        ]
        worst = Reference(
            value=ends.min() - 100 * config["as_good_as"],
            name="worse end less the margin",
        )
        panels.append(
            Chart(
                title=_title(pair),
                x=T,
                y=Axis(label="test accuracy", **ACCURACY),
                series=(*series, segment),
                references=(worst,),
                legend=False,
            )
        )
    return Figure(
        title=f"Kinds of curve after {config['curve_epochs'][-1]} epochs",
        caption="Kinds of curve side by side",
        claims=("worst-minus-segment",),
        panels=tuple(panels),
        **_grid(pairs),
    )


def epochs(pairs: Sequence[str], config: dict, arrays: Arrays) -> Figure:
    """How the worst point and the bend change while curves are fitted."""
    found = config["curve_epochs"]
    x = Axis(label="epochs of fitting", ticks=tuple(found))
    half = int(np.searchsorted(arrays["t"], 0.5))
    worst = []
    for color, pair in zip(style.COLORS, pairs, strict=False):
        values = 100 * arrays[f"{pair}/chain/test_accuracy"][..., 1:-1].min(-1)
        worst.append(Series(x=found, y=values, name=pair, color=color, marker="o"))
    worst += [_papers_worst(pair, config["dataset"] != "cifar10") for pair in pairs]

    def bends(part, title):
        series = []
        for kind, name in KINDS.items():
            losses = [arrays[f"{pair}/{kind}/{part}_loss"][..., half] for pair in pairs]
            own = {"name": name, "color": COLORS[kind], "marker": "o"}
            series.append(Series(x=found, y=np.mean(losses, axis=0), **own))
        y = Axis(label=f"{part} loss at t = 1/2", unit="nats")
        return Chart(title=title, x=x, y=y, series=tuple(series))

    return Figure(
        title="While curves are fitted",
        caption="While curves are fitted",
        claims=("worst-by-epochs", "bend-loss"),
        panels=(
            Chart(
                title="Worst point of each chain",
                x=x,
                y=Axis(label="worst test accuracy", **ACCURACY),
                series=tuple(worst),
            ),
            bends("test", "The bend on the test set, mean of pairs"),
            bends("train", "The bend on the training set, likewise"),
        ),
        columns=3,
        width=11.0,
        height=3.4,
    )


def _papers_worst(pair: str, hidden: bool) -> Series:
    found = paper.table("closer_look/fig1_val_acc")
    rows = found["curve"] == pair
    columns = [values[rows] for name, values in found.items() if name[0] == "0"]
    return Series(
        x=found["mc_epoch"][rows],
        y=np.nanmin(columns, axis=0),
        name=f"paper: {pair}",
        paper=True,
        hidden=hidden,
    )
