"""Figure 14 of Gotmare et al. 2019: what a restart changes, layer against layer."""

import numpy as np

from kd_heuristics import paper
from kd_heuristics.files import AnyPath
from kd_heuristics.plots import maps, style

_PAPER_MAPS = {
    "restart": "closer_look/fig14a_sgdr_150_155",
    "first-last": "closer_look/fig14b_sgdr_10_150",
}
_NAMES = ("restart", "first-last", "seeds", "floor")


def figure14(folder: AnyPath, config: dict, arrays: dict, words: str) -> None:
    """Draws figures/figure14: both maps, their signed difference, the diagonals."""
    restart, first = (f"w{a} against w{b}" for a, b in config["map_pairs"])
    layers = list(arrays["layers"])
    found = {name: arrays[f"maps/{name}"].mean(0) for name in _NAMES}
    figure, axes = style.panels(2, 2, width=9.0, height=4.2)
    maps.heat_map(axes[0, 0], found["restart"], layers, floor=found["floor"])
    image = maps.heat_map(axes[0, 1], found["first-last"], layers, floor=found["floor"])
    label = f"{config['measure']} (dots: not above the noise floor)"
    figure.colorbar(image, ax=axes[0], label=label, shrink=0.7)
    change = maps.difference_map(
        axes[1, 0], found["restart"] - found["first-last"], layers
    )
    figure.colorbar(change, ax=axes[1, 0], shrink=0.7, label="(a) minus (b)")
    _diagonals(axes[1, 1], config, arrays, (restart, first))
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


def _diagonals(ax, config, arrays, words):
    labels = (*words, "another seed, same epoch")
    layers = list(arrays["layers"])
    maps.diagonals(
        ax,
        {
            label: arrays[f"maps/{name}"]
            for label, name in zip(labels, _NAMES, strict=False)
        },
        layers,
        floor=np.diagonal(arrays["maps/floor"].mean(0)),
    )
    if config["dataset"] == "cifar10":
        # VGG-11-BN's layers, whatever ours are: on a scale of depth.
        for name in _PAPER_MAPS.values():
            values = paper.similarity_map(name).values
            depth = np.linspace(0, len(layers) - 1, len(values))
            ax.plot(depth, np.diagonal(values), **style.PAPER)
        ax.plot([], [], **style.PAPER, label="paper (grey, by depth)")
    ax.set(ylabel=f"similarity ({config['measure']})")
    ax.legend(fontsize=7)
