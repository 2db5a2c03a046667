"""Figures of the SGDR study: the paper's 2, 3 and 11 to 14, and the barriers."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from experiments.common import charts, measures, paper
from experiments.common.charts import Arrays
from experiments.sgdr import twins
from experiments.sgdr.claims import DECAYS, STABLE
from kd_heuristics import points
from kd_heuristics.plots import (
    Axis,
    Chart,
    Figure,
    HeatMap,
    LossSurface,
    Reference,
    Series,
    style,
)

ARMS = {"sgdr": "SGDR", "step": "step decay", "cosine": "one cosine"}
PAPER_ARMS = {"sgdr": "SGDR", "step": "SGD_step_decay"}
PAPER_MAPS = {
    (150, 155): "sgdr/fig14a_sgdr_150_155",
    (10, 150): "sgdr/fig14b_sgdr_10_150",
}
PLANES = {  # for the pairs in this order
    "figure3": ("Figure 3", "loss on the plane of two iterates and their bend"),
    "figures12_13": ("Figures 12 and 13", "loss on the plane of another pair"),
}
NAMES = ARMS | {"wsd": "constant, cooldown", "linear": "line", "fge": "short cycles"}
COLORS = dict(zip(NAMES, style.COLORS, strict=False))
AVERAGES = {
    "last": "SGDR: last minimum",
    "ensemble": "SGDR: predictions of minima",
    "average": "SGDR: weights of minima",
    "fge": "short cycles: predictions of minima",
}
EPOCH = Axis("epoch (from 0)")
T = Axis("t along the path")


def figures(config: dict, results: dict, arrays: Arrays) -> dict[str, Figure]:
    """Returns all figures of a run."""
    pairs = zip(PLANES.items(), config["planes"], strict=False)
    planes = {
        name: plane(pair, *words, config["first_seed"], arrays)
        for (name, words), pair in pairs
    }
    return {
        "figure2": figure2(config, arrays),
        **planes,
        "figure11": figure11(config, arrays),
        "figure14": figure14(config, arrays),
        "measures": other_measures(config, results, arrays),
        "barriers": barriers(config, arrays),
        **_lenses(config, results, arrays),
    }


def _lenses(config: dict, results: dict, arrays: Arrays) -> dict[str, Figure]:
    """Plots twins, averages and further schedules; {} if a run has none of them."""
    panels, claims, more = [], [], config["more_arms"]
    if more or config["averaged"]:
        panels.append(_accuracies(config, results, arrays))
        claims += ["averages"] if config["averaged"] else []
        claims += [f"final-accuracy/{arm}-sgdr" for arm in DECAYS if arm in more]
    if more:
        rates = []
        for arm in (*ARMS, *more):
            rate = arrays[f"{arm}/rate_epoch"], arrays[f"{arm}/rate"], NAMES[arm]
            rates.append(Series(*rate, COLORS[arm], line="steps"))
        panels.append(Chart("Learning rate", EPOCH, Axis("learning rate"), rates))
    if config["twin_epochs"]:
        panels.append(_instability(config, arrays))
        claims.append("instability")
    if not panels:
        return {}
    caption = (
        "What else restarts may be good for, and what else may decide a minimum: "
        "averages of the minima of SGDR (Huang et al. 2017; Izmailov et al. 2018) and "
        "of short cycles (Garipov et al. 2018), schedules of equal cost, and runs that "
        "see other batches from some epoch on (Frankle et al. 2020)"
    )
    size = {"columns": len(panels), "width": 4.0 * len(panels), "height": 3.4}
    return {"rivals": Figure("Rivals of restarts", caption, panels, claims, **size)}


def _accuracies(config: dict, results: dict, arrays: Arrays) -> Chart:
    """Plots a row for each schedule and average, at SGDR's last minimum."""
    at = results["accuracy_after_epoch"]
    rows = {
        NAMES[arm]: (arrays[f"{arm}/test_accuracy"][:, at], COLORS[arm])
        for arm in (*ARMS, *config["more_arms"])
    }
    rows |= {
        words: (arrays[f"averages/{kind}/test_accuracy"], style.DARK)
        for kind, words in AVERAGES.items()
        if f"averages/{kind}/test_accuracy" in arrays
    }
    series = [
        Series(
            *(100 * values, np.full(len(values), row), words, color),
            line="none",
            marker="o",
            legend="",
        )
        for row, (words, (values, color)) in enumerate(rows.items())
    ]
    x = Axis("test accuracy, one mark per seed", "%")
    return Chart("At equal cost of training", x, Axis(names=[*rows]), series)


def _instability(config: dict, arrays: Arrays) -> Chart:
    """Plots the rise in error between runs and twins against where they part."""
    parts = config["twin_epochs"]
    series = []
    for color, part in zip(style.COLORS, ("test", "train"), strict=False):
        rises = [
            twins.rise(arrays[f"{twins.name(epochs)}/segment/{part}_accuracy"])
            for epochs in parts
        ]
        values = np.stack(rises, axis=1)
        series.append(Series(parts, values, f"{part} error", color, marker="o"))
    return Chart(
        "Between runs that part",
        Axis("epochs before they see other batches", ticks=parts),
        Axis("rise in error on the segment", "points"),
        series,
        [Reference(STABLE, "stable below (Frankle et al. 2020)")],
    )


def figure2(config: dict, arrays: Arrays) -> Figure:
    """Plots accuracy, learning rates, and train loss between iterates."""
    hidden = config["dataset"] != "cifar10"  # the paper has another task
    accuracy, rates = [], []
    for arm, name in ARMS.items():
        values = 100 * arrays[f"{arm}/test_accuracy"]
        epochs = np.arange(values.shape[1])
        accuracy.append(Series(epochs, values, name, COLORS[arm]))
        rate = arrays[f"{arm}/rate_epoch"], arrays[f"{arm}/rate"]
        rates.append(Series(*rate, name, COLORS[arm], line="steps"))
    table = paper.table("sgdr/fig2a_test_acc")
    own: dict[str, Any] = {"line": "none", "paper": True, "hidden": hidden}
    for marker, (arm, column) in zip("os", PAPER_ARMS.items(), strict=True):
        name = f"paper: {ARMS[arm]}"
        own |= {"marker": marker, "legend": name}
        accuracy.append(Series(table["epoch"], table[column], name, **own))
    panels = [
        Chart("(a) Test accuracy", EPOCH, Axis("accuracy", "%"), accuracy),
        Chart("(b) Learning rate", EPOCH, Axis("learning rate"), rates),
        _paths("(c) Between iterates of SGDR", "sgdr", config, arrays),
        _paths("(d) Between iterates of step decay", "step", config, arrays),
    ]
    caption = "Figure 2: accuracy, learning rates, and train loss between iterates"
    return Figure("Figure 2", caption, panels, ["barrier"])


def _paths(title: str, arm: str, config: dict, arrays: Arrays) -> Chart:
    """Plots train loss along an arm's paths, and along the paper's."""
    series = [*_along(arm, config, arrays, "train_loss", 1)]
    own: dict[str, Any] = {"paper": True, "hidden": config["dataset"] != "cifar10"}
    table = paper.table("sgdr/fig2cd_train_loss")
    run = PAPER_ARMS[arm].split("_")[0]
    for pair in dict.fromkeys(table["pair"][table["run"] == run]):
        rows = (table["run"] == run) & (table["pair"] == pair)
        t, segment, chain = (table[name][rows] for name in ("t", "segment", "mc_curve"))
        series += [
            Series(t, segment, f"paper: {pair}, segment", line="dash", **own),
            Series(t, chain, f"paper: {pair}, chain", **own),
        ]
    return Chart(title, T, Axis("train loss", "nats", "log"), series)


def _along(arm, config, arrays, metric, scale) -> Iterator[Series]:
    """Yields dashed segments and chains.

    Where each pair has a chain, the legend names only the first segment.
    """
    dashed, pairs = "segments (dashed)", config[f"{arm}_pairs"]
    some = not all(f"{arm}/{a}-{b}/chain/{metric}" in arrays for a, b in pairs)
    for color, (a, b) in zip(style.COLORS, pairs, strict=False):
        name = f"w{a} to w{b}"
        segment, chain = (
            f"{arm}/{a}-{b}/{path}/{metric}" for path in ("segment", "chain")
        )
        own: dict[str, Any] = {"legend": dashed, "line": "dash"}
        if some:
            own["legend"] = f"{name} (segment)"
        values = scale * arrays[segment]
        yield Series(arrays["t"], values, f"{name}, segment", color, **own)
        if chain in arrays:
            values = scale * arrays[chain]
            legend = f"{name} (chain)" if some else name
            yield Series(arrays["t"], values, f"{name}, chain", color, legend=legend)
            dashed = ""


def figure11(config: dict, arrays: Arrays) -> Figure:
    """Plots accuracies and test loss along the paths."""
    metrics = (
        ("train_accuracy", Axis("train accuracy", "%"), 100),
        ("test_accuracy", Axis("test accuracy", "%"), 100),
        ("test_loss", Axis("test loss", "nats", "log"), 1),
    )
    panels = [
        Chart(
            f"{words}: {y.label}",
            T,
            y,
            [*_along(arm, config, arrays, metric, scale)],
            legend=metric == "train_accuracy",
        )
        for arm, words in (("sgdr", "SGDR"), ("step", "Step decay"))
        for metric, y, scale in metrics
    ]
    caption = "Figure 11: accuracies and test loss along the paths of Figure 2"
    size = {"columns": 3, "width": 11.0, "height": 2.8}
    return Figure("Figure 11", caption, panels, ["chain-gain"], **size)


def plane(pair, title: str, words: str, seed: int, arrays: Arrays) -> Figure:
    """Plots losses on the plane of a pair, with the iterates in between."""
    key = f"plane-{pair[0]}-{pair[1]}"
    xs, ys, anchors, between = (
        arrays[f"{key}/{name}"] for name in ("xs", "ys", "anchors", "affine")
    )
    first, second, bend = anchors
    run = [first, *between, second]
    names = [f"w{pair[0]}", f"w{pair[1]}", "bend"]
    epochs = [f"w{epoch}" for epoch in arrays[f"{key}/epochs"]]
    line, white, marks = charts.through, "#ffffff", {"line": "none", "marker": "o"}
    series = [
        line([first, bend, second], "chain", white),
        line([first, second], "segment", white, line="dash"),
        line(run, "training", style.COLORS[1], marker="."),
        line(anchors, "networks", white, labels=names, **marks),
        line(between, "iterates", "#FFD0A0", labels=epochs, line="none"),
    ]
    losses = {part: arrays[f"{key}/{part}_loss"] for part in ("train", "test")}
    name = f"Plane of w{pair[0]}, w{pair[1]} and the bend between them"
    sides = {"x": f"distance along w{pair[0]} to w{pair[1]}"}
    sides["y"] = "distance towards the bend"
    return Figure(
        f"{title}, seed {seed}",
        f"{title}: {words}",
        [LossSurface(name, xs, ys, losses, series, **sides)],
        ["chain-gain"],
        subtitle="{run}",
        width=10.0,
        height=4.2,
    )


def figure14(config: dict, arrays: Arrays) -> Figure:
    """Plots both maps, their signed difference and diagonals, and the paper's maps."""
    layers, measure = arrays["layers"], config["measure"]
    names = ("restart", "first-last", "seeds", "floor")
    *found, floor = (arrays[f"maps/{name}"] for name in names)
    restart, first, _ = (values.mean(0) for values in found)
    noise = {"floor": floor.mean(0)}
    noise["label"] = f"{measure} (dots: at or below the noise floor)"
    pairs = config["map_pairs"]
    words = [*(f"w{a} against w{b}" for a, b in pairs), "another seed, same epoch"]
    titles = f"(a) Over a restart: {words[0]}", f"(b) First against last: {words[1]}"
    change = {"scale": "signed", "label": "(a) minus (b)"}
    lines = dict(zip(words, zip(found, style.COLORS, strict=False), strict=True))
    panels = [
        _map(titles[0], restart, layers, pairs[0], **noise),
        _map(titles[1], first, layers, pairs[1], **noise),
        charts.similarity_map("(c) Difference", restart - first, layers, **change),
        charts.diagonals(
            "(d) Each layer against itself",
            lines,
            layers,
            measure,
            noise["floor"],
            [*_papers_diagonals(len(layers), config["dataset"] != "cifar10")],
        ),
    ]
    for pair, file in PAPER_MAPS.items():
        theirs = paper.similarity_map(file)
        title = f"Paper: w{pair[0]} against w{pair[1]} (one triangle, mirrored)"
        own = {"still": False, "paper": True}
        panels.append(_map(title, theirs.values, theirs.rows, pair, **own))
    caption = "Figure 14: similarity of layers over a restart, and from first to last"
    title = "Figure 14, mean over seeds"
    return Figure(title, caption, panels, ["similarity"], height=4.2)


def other_measures(config: dict, results: dict, arrays: Arrays) -> Figure:
    """Plots the map over a restart, and Figure 14's statistics, by every measure."""

    def draw(title: str, values: np.ndarray, **own: Any) -> HeatMap:
        return _map(title, values, arrays["layers"], config["map_pairs"][0], **own)

    return measures.figure(config, results, arrays, "maps/restart", draw)


def _map(title: str, values: Any, layers: Any, epochs: Any, **options: Any) -> HeatMap:
    axes = {"y": f"epoch {epochs[0]}", "x": f"epoch {epochs[1]}"}
    return charts.similarity_map(title, values, layers, **axes, **options)


def _papers_diagonals(count: int, hidden: bool) -> Iterator[Series]:
    """Yields the paper's VGG-11-BN layers, scaled by depth to our layers."""
    legend = "paper (grey, by depth)"
    for (a, b), file in PAPER_MAPS.items():
        values = np.diagonal(paper.similarity_map(file).values)
        depth = np.linspace(0, count - 1, len(values))
        name = f"paper: w{a} against w{b}, by depth"
        yield Series(depth, values, name, legend=legend, paper=True, hidden=hidden)
        legend = ""


def barriers(config: dict, arrays: Arrays) -> Figure:
    """Plots the barrier of each segment against the distance of its ends."""
    series, highest = [], 0.0
    for arm, name in ARMS.items():
        pairs = config["step_pairs" if arm == "step" else "sgdr_pairs"]
        for number, (a, b) in enumerate(pairs):
            losses = arrays[f"{arm}/{a}-{b}/segment/train_loss"]
            worse = np.maximum(losses[:, 0], losses[:, -1])
            barrier = 100 * np.array([points.barrier(row) for row in losses]) / worse
            distance = arrays[f"{arm}/{a}-{b}/distance"]
            own: dict[str, Any] = {"color": COLORS[arm], "line": "none"}
            marks: dict[str, Any] = {"marker": "o", "legend": "" if number else name}
            series += [
                Series(distance, barrier, f"{name}, w{a} to w{b}", **marks, **own),
                Series([distance.mean()], [barrier.mean()], labels=[f"{a}-{b}"], **own),
            ]
            highest = max(highest, barrier.max())
    chart = Chart(
        "Barrier of each segment",
        Axis("distance between the two networks (Euclidean, all weights)"),
        Axis(
            "highest point of the segment\nabove its worse end",
            "% of its loss",
            "symlog" if highest > 100 else "linear",  # some are ten times the others
        ),
        series,
        [Reference(100 * config["smallest_effect"], "smallest barrier that counts")],
    )
    caption = "Barriers against the distance between the two networks"
    size = {"columns": 1, "width": 6.0, "height": 3.6}
    return Figure("Barriers and distances", caption, [chart], ["barrier"], **size)
