"""Figures 1 and 7 to 10 of Gotmare et al. 2019, and the kinds of curve side by side."""

import numpy as np

from kd_heuristics import paper
from kd_heuristics.files import AnyPath
from kd_heuristics.plots import style
from kd_heuristics.plots.folder import read

# What each figure of the paper shows along the curves: metric, words, digitised table.
_FIGURES = {
    "figure1": ("test_accuracy", "test accuracy (%)", "fig1_val_acc"),
    "figure7": ("test_loss", "test loss (nats)", "fig7_val_loss"),
    "figure8": ("train_accuracy", "train accuracy (%)", "fig8_train_acc"),
    "figure9": ("train_loss", "train loss (nats)", "fig9_train_loss"),
}
_KINDS = {"chain": "chain", "decayed": "chain, decay on bend", "bezier": "Bezier"}
_COLORS = dict(zip(_KINDS, style.COLORS, strict=False))
_SEGMENT = {"color": "k", "ls": ":", "lw": 1.0}
_MAPS = 3  # at most so many seeds


def mode_connectivity(path: AnyPath) -> None:
    """Draws figures/figure1, figure7 to figure10, kinds and epochs of a run folder."""
    run, config, arrays, words = read(path)
    folder = run.path
    pairs = [f"G{mode}" for mode in config["modes"][1:]]
    with style.context():
        for name in _FIGURES:
            _along(folder, name, pairs, config, arrays, words)
        _kinds(folder, pairs, config, arrays, words)
        _epochs(folder, pairs, config, arrays, words)
        _map(folder, pairs, config, arrays, words)


def _grid(pairs):
    """A panel a pair in rows of three, as in the paper."""
    rows, columns = -(-len(pairs) // 3), min(3, len(pairs))
    figure, axes = style.panels(rows, columns, width=3.4 * columns, height=2.7)
    for ax in axes.flat[len(pairs) :]:
        ax.remove()
    return figure, axes.flat[: len(pairs)]


def _scaled(values, metric):
    return 100 * values if metric.endswith("accuracy") else values


def _curve_words(pair):
    return f"from G (t = 0) to {pair[1]} (t = 1)"


def _along(folder, name, pairs, config, arrays, words):
    """The chains after several epochs of fitting, and the segments."""
    metric, label, table = _FIGURES[name]
    figure, axes = _grid(pairs)
    t = arrays["t"]
    for letter, pair, ax in zip("abcdef", pairs, axes, strict=False):
        if config["dataset"] == "cifar10":
            _paper_curves(ax, pair, table)
        values = _scaled(arrays[f"{pair}/chain/{metric}"], metric)
        for index, epoch in enumerate(config["curve_epochs"]):
            color = style.COLORS[index % len(style.COLORS)]
            style.band(
                ax, t, values[:, index], color=color, lw=1.2, label=f"epoch {epoch}"
            )
        segment = _scaled(arrays[f"{pair}/segment/{metric}"], metric)
        style.band(ax, t, segment, **_SEGMENT, label="segment")
        ax.set_title(f"({letter}) {pair}: {_curve_words(pair)}", loc="left", fontsize=8)
        ax.set(xlabel="t along the curve", ylabel=label)
        if metric.endswith("loss"):
            style.log_scale(ax)
    if config["dataset"] == "cifar10":
        axes[0].plot([], [], **style.PAPER, label="paper (grey)")
    _legend_below(figure, axes[0])
    figure.suptitle(f"Figure {name.removeprefix('figure')} - {words}", fontsize=9)
    style.save(figure, folder, name)


def _paper_curves(ax, pair, table):
    found = paper.table(f"closer_look/{table}")
    ts = [column for column in found if column[0] == "0"]
    for row in np.flatnonzero(found["curve"] == pair):
        values = [found[column][row] for column in ts]
        ax.plot([float(t) for t in ts], values, **style.PAPER)


def _legend_below(figure, ax):
    handles, labels = ax.get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=len(labels), fontsize=8
    )


def _kinds(folder, pairs, config, arrays, words):
    """The kinds of curve at the end of their fitting."""
    figure, axes = _grid(pairs)
    for pair, ax in zip(pairs, axes, strict=True):
        for kind, label in _KINDS.items():
            values = 100 * arrays[f"{pair}/{kind}/test_accuracy"][:, -1]
            style.band(ax, arrays["t"], values, color=_COLORS[kind], label=label)
        segment = 100 * arrays[f"{pair}/segment/test_accuracy"]
        style.band(ax, arrays["t"], segment, **_SEGMENT, label="segment")
        worse = min(segment[:, 0].mean(), segment[:, -1].mean())
        ax.axhline(
            worse - 100 * config["as_good_as"],
            color="0.5",
            lw=0.8,
            ls="--",
            label="worse end less the margin",
        )
        ax.set_title(f"{pair}: {_curve_words(pair)}", loc="left", fontsize=8)
        ax.set(xlabel="t along the curve", ylabel="test accuracy (%)")
    _legend_below(figure, axes[0])
    epoch = config["curve_epochs"][-1]
    figure.suptitle(f"Kinds of curve after {epoch} epochs - {words}", fontsize=9)
    style.save(figure, folder, "kinds")


def _epochs(folder, pairs, config, arrays, words):
    """How the worst point and the bend change while curves are fitted."""
    figure, axes = style.panels(1, 3, width=11.0, height=3.4)
    epochs = config["curve_epochs"]
    half = int(np.searchsorted(arrays["t"], 0.5))
    for color, pair in zip(style.COLORS, pairs, strict=False):
        worst = 100 * arrays[f"{pair}/chain/test_accuracy"][..., 1:-1].min(-1)
        style.band(axes[0, 0], epochs, worst, color=color, marker="o", ms=3, label=pair)
        if config["dataset"] == "cifar10":
            found = paper.table("closer_look/fig1_val_acc")
            rows = found["curve"] == pair
            columns = [values[rows] for name, values in found.items() if name[0] == "0"]
            axes[0, 0].plot(
                found["mc_epoch"][rows], np.nanmin(columns, axis=0), **style.PAPER
            )
    for ax, part in zip(axes[0, 1:], ("test", "train"), strict=True):
        for kind, label in _KINDS.items():
            losses = [arrays[f"{pair}/{kind}/{part}_loss"][..., half] for pair in pairs]
            mean = np.mean(losses, axis=0)
            style.band(
                ax, epochs, mean, color=_COLORS[kind], marker="o", ms=3, label=label
            )
        ax.set(xlabel="epochs of fitting", ylabel=f"{part} loss at t = 1/2 (nats)")
        ax.legend()
    if config["dataset"] == "cifar10":
        axes[0, 0].plot([], [], **style.PAPER, label="paper")
    axes[0, 0].set(xlabel="epochs of fitting", ylabel="worst test accuracy (%)")
    axes[0, 0].legend(ncols=2)
    titles = (
        "Worst point of each chain",
        "The bend on the test set, mean of pairs",
        "The bend on the training set, likewise",
    )
    for ax, title in zip(axes.flat, titles, strict=True):
        ax.set_title(title, loc="left")
        ax.set_xticks(epochs)
    figure.suptitle(f"While curves are fitted - {words}", fontsize=9)
    style.save(figure, folder, "epochs")


def _map(folder, pairs, config, arrays, words):
    """t-SNE of modes and bends, a panel a seed."""
    maps = arrays["map"][:_MAPS]
    figure, axes = style.panels(1, len(maps), width=4.2 * len(maps), height=3.8)
    modes = config["modes"]
    for index, (ax, places) in enumerate(zip(axes.flat, maps, strict=True)):
        ends, bends = places[: len(modes)], places[len(modes) :]
        for color, pair, end, bend in zip(
            style.COLORS, pairs, ends[1:], bends, strict=False
        ):
            line = np.stack([ends[0], bend, end])
            ax.plot(*line.T, color=color, lw=1.0, zorder=1)
            ax.plot(*bend, "s", color=color, ms=4)
            ax.plot(*end, "o", color=color, ms=6)
            _name(ax, pair[1], end, color)
        ax.plot(*ends[0], "*", color="k", ms=10)
        _name(ax, "G", ends[0], "k")
        ax.set_title(f"seed {config['first_seed'] + index}", loc="left")
        ax.set(xticks=[], yticks=[], xlabel="no units")
        ax.margins(0.12)
    figure.suptitle(
        f"Figure 10: t-SNE of modes (circles) and bends (squares)\n{words}", fontsize=9
    )
    style.save(figure, folder, "figure10")


def _name(ax, text, place, color):
    ax.annotate(
        text, place, textcoords="offset points", xytext=(6, 4), color=color, fontsize=10
    )
