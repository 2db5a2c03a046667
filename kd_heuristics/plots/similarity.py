"""Figure 14 of Gotmare et al. 2019: what a restart changes, layer against layer."""

from pathlib import Path

import numpy as np

from kd_heuristics import paper
from kd_heuristics.plots import style

_PAPER_MAPS = {
    "restart": "closer_look/fig14a_sgdr_150_155",
    "first-last": "closer_look/fig14b_sgdr_10_150",
}


def figure14(folder: Path, config: dict, arrays: dict, words: str) -> None:
    """Draws figures/figure14: both maps, their signed difference, the diagonals."""
    restart, first = (f"w{a} against w{b}" for a, b in config["map_pairs"])
    layers = [name.partition("_")[2] for name in arrays["layers"]]
    maps = {name: arrays[f"maps/{name}"].mean(0) for name in ("restart", "first-last")}
    figure, axes = style.panels(2, 2, width=9.0, height=4.2)
    image = style.heat_map(axes[0, 0], maps["restart"], layers, layers)
    style.heat_map(axes[0, 1], maps["first-last"], layers, layers)
    figure.colorbar(image, ax=axes[0], label=config["measure"], shrink=0.7)
    change = style.difference_map(
        axes[1, 0], maps["restart"] - maps["first-last"], layers, layers
    )
    figure.colorbar(change, ax=axes[1, 0], shrink=0.7, label="(a) minus (b)")
    _diagonals(axes[1, 1], config, arrays, layers, (restart, first))
    titles = (
        f"(a) Over a restart: {restart}",
        f"(b) First against last: {first}",
        "(c) Difference",
        "(d) A layer with itself",
    )
    for ax, title in zip(axes.flat, titles, strict=True):
        ax.set_title(title, loc="left")
    figure.suptitle(f"Figure 14, mean over seeds - {words}", fontsize=9)
    style.save(figure, folder, "figure14")


def _diagonals(ax, config, arrays, layers, words):
    rows = (
        ("restart", words[0]),
        ("first-last", words[1]),
        ("seeds", "another seed, same epoch"),
    )
    places = np.arange(len(layers))
    for color, (name, label) in zip(style.COLORS, rows, strict=False):
        values = np.diagonal(arrays[f"maps/{name}"], axis1=1, axis2=2)
        if np.isfinite(values).any():
            style.band(ax, places, values, color=color, label=label)
    floor = np.diagonal(arrays["maps/floor"].mean(0))
    ax.plot(places, floor, color="k", ls=":", lw=0.9, label="noise floor")
    if config["dataset"] == "cifar10":
        # VGG-11-BN's layers, whatever ours are: on a scale of depth.
        for table in _PAPER_MAPS.values():
            _, values = paper.similarity_map(table)
            depth = np.linspace(0, len(layers) - 1, len(values))
            ax.plot(depth, np.diagonal(values), **style.PAPER)
        ax.plot([], [], **style.PAPER, label="paper (grey, by depth)")
    ax.set_xticks(places, layers, rotation=90, fontsize=5)
    ax.set(ylabel=f"similarity ({config['measure']})", ylim=(0, 1))
    ax.legend(fontsize=7)
