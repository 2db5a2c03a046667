"""Figures of the SGDR study, and the barriers beside the weight distances."""

import numpy as np

from kd_heuristics import paper
from kd_heuristics.files import AnyPath
from kd_heuristics.plots import planes, similarity, style
from kd_heuristics.plots.folder import read

_ARMS = {"sgdr": "SGDR", "step": "step decay", "cosine": "one cosine"}
_PLANES = ("Figure 3", "Figures 12 and 13")  # of the pairs in this order
_PAPER_ARMS = {"sgdr": "SGDR", "step": "SGD_step_decay"}


def sgdr(path: AnyPath) -> None:
    """Draws figures 2, 3, 11 to 14 and the barriers into a run folder's figures."""
    run, config, arrays, words = read(path)
    folder = run.path
    with style.context():
        _figure2(folder, config, arrays, words)
        _barriers(folder, config, arrays, words)
        planes.figure11(folder, config, arrays, words)
        for title, pair in zip(_PLANES, config["planes"], strict=False):
            planes.plane(folder, pair, title, config, arrays, words)
        similarity.figure14(folder, config, arrays, words)


def _figure2(folder, config, arrays, words):
    figure, axes = style.panels(2, 2)
    with_paper = config["dataset"] == "cifar10"
    _accuracy(axes[0, 0], arrays, with_paper)
    _rates(axes[0, 1], arrays)
    _paths(axes[1, 0], "sgdr", config["sgdr_pairs"], arrays, with_paper)
    _paths(axes[1, 1], "step", config["step_pairs"], arrays, with_paper)
    titles = (
        "(a) Test accuracy",
        "(b) Learning rate",
        "(c) SGDR: between its iterates",
        "(d) Step decay: between its iterates",
    )
    for ax, title in zip(axes.flat, titles, strict=True):
        ax.set_title(title, loc="left")
    figure.suptitle(f"Figure 2 - {words}", fontsize=9)
    style.save(figure, folder, "figure2")


def _accuracy(ax, arrays, with_paper):
    for color, (arm, name) in zip(style.COLORS, _ARMS.items(), strict=False):
        values = 100 * arrays[f"{arm}/test_accuracy"]
        epochs = np.arange(values.shape[1])
        style.band(ax, epochs, values, color=color, label=name, linewidth=1.2)
    if with_paper:
        table = paper.table("closer_look/fig2a_test_acc")
        for marker, (arm, column) in zip("os", _PAPER_ARMS.items(), strict=True):
            ax.plot(
                table["epoch"],
                table[column],
                marker,
                **style.PAPER,
                markersize=3,
                label=f"paper: {_ARMS[arm]}",
            )
    ax.set(xlabel="epoch (from 0)", ylabel="accuracy (%)")
    ax.legend()


def _rates(ax, arrays):
    for color, (arm, name) in zip(style.COLORS, _ARMS.items(), strict=False):
        epochs, rate = arrays[f"{arm}/rate_epoch"], arrays[f"{arm}/rate"]
        ax.plot(epochs, rate, color=color, label=name, drawstyle="steps-post")
    ax.set(xlabel="epoch (from 0)", ylabel="learning rate")
    ax.legend()


def _paths(ax, arm, pairs, arrays, with_paper):
    t = arrays["t"]
    for color, (a, b) in zip(style.COLORS, pairs, strict=False):
        segment = arrays[f"{arm}/{a}-{b}/segment/train_loss"]
        chain = arrays[f"{arm}/{a}-{b}/chain/train_loss"]
        style.band(ax, t, segment, color=color, ls="--")
        style.band(ax, t, chain, color=color, label=f"w{a} to w{b}")
    ax.plot([], [], color="k", ls="--", label="segment")
    ax.plot([], [], color="k", label="fitted chain")
    if with_paper:
        _paper_paths(ax, _PAPER_ARMS[arm].split("_")[0])
    ax.set(xlabel="t along the path", ylabel="train loss (nats, log scale)")
    style.log_scale(ax)
    ax.legend(fontsize=7, frameon=True, framealpha=0.8, edgecolor="none")


def _paper_paths(ax, run):
    table = paper.table("closer_look/fig2cd_train_loss")
    for pair in dict.fromkeys(table["pair"][table["run"] == run]):
        rows = (table["run"] == run) & (table["pair"] == pair)
        for column, dashes in (("segment", "--"), ("mc_curve", "-")):
            ax.plot(table["t"][rows], table[column][rows], ls=dashes, **style.PAPER)
    ax.plot([], [], **style.PAPER, label="paper (grey)")


def _barriers(folder, config, arrays, words):
    figure, axes = style.panels(1, 1, width=6.0, height=3.6)
    ax = axes[0, 0]
    highest = 0.0
    for color, (arm, name) in zip(style.COLORS, _ARMS.items(), strict=False):
        pairs = config["step_pairs" if arm == "step" else "sgdr_pairs"]
        for number, (a, b) in enumerate(pairs):
            key = f"{arm}/{a}-{b}"
            losses = arrays[f"{key}/segment/train_loss"]
            worse = np.maximum(losses[:, 0], losses[:, -1])
            barrier = losses[:, 1:-1].max(1) / worse - 1
            distance = arrays[f"{key}/distance"]
            label = name if number == 0 else None
            ax.plot(distance, 100 * barrier, "o", color=color, label=label)
            ax.annotate(
                f"{a}-{b}",
                (distance.mean(), 100 * barrier.mean()),
                textcoords="offset points",
                xytext=(5, -10 if arm == "cosine" else 4),
                color=color,
                fontsize=7,
            )
            highest = max(highest, 100 * barrier.max())
    threshold = 100 * config["smallest_effect"]
    ax.axhline(threshold, color="0.4", lw=0.8, ls=":", label="smallest that counts")
    if highest > 100:  # some are tenfold the others
        ax.set_yscale("symlog", linthresh=10)
    ax.set(
        xlabel="distance of the two networks (Euclidean, all weights)",
        ylabel="highest point of the segment\nabove its worse end (% of its loss)",
    )
    ax.legend()
    figure.suptitle(f"Barriers and distances - {words}", fontsize=9)
    style.save(figure, folder, "barriers")
