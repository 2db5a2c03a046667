"""Figures 4, 5 and 15 of Gotmare et al. 2019, and the controls beside them."""

import numpy as np
from matplotlib.ticker import MaxNLocator

from kd_heuristics import paper
from kd_heuristics.files import AnyPath
from kd_heuristics.plots import maps, style
from kd_heuristics.plots.folder import read

# The arms of the paper, by the names of its columns.
PAPER = {
    "small": "SB no warmup",
    "large": "LB no warmup",
    "warmup": "LB+warmup",
    "freeze_fc": "LB+FC freeze",
}
PAPER_MAPS = {
    "fig5a_SB_nowarm_0_200": "small batch: iterations 0 and 200",
    "fig5b_LB_nowarm_0_200": "large batch: iterations 0 and 200",
    "fig5c_LB_warm_0_200": "warmup: iterations 0 and 200",
    "fig5d_LB_warm_200_2990": "warmup: iterations 200 and 2990",
}
WORDS = {
    "small": "small batch",
    "large": "large batch",
    "warmup": "warmup",
    "freeze_fc": "FC frozen",
    "freeze_conv": "conv. frozen",
    "freeze_random": "others frozen",
    "low_rate": "low rate",
    "clip": "clipped",
    "warmup_fc": "FC warmup",
}
_COLORS = dict(
    zip(WORDS, (*style.COLORS, "#999999", "#000000", "#8C510A"), strict=True)
)


def warmup(path: AnyPath) -> None:
    """Draws figures/figure4, figure5, controls and, for ResNets, figure15."""
    run, config, arrays, words = read(path)
    folder = run.path
    with style.context():
        _figure4(folder, config, arrays, words)
        _figure5(folder, config, arrays, words)
        _controls(folder, config, arrays, words)
        if config["model"].startswith("resnet"):
            _figure15(folder, config, arrays, words)


def _arms(config, *names):
    return [name for name in names if name in config["arms"]]


def _is_papers(config):
    return config["dataset"] == "cifar10" and config["model"] == "vgg11_bn"


def _figure4(folder, config, arrays, words):
    figure, axes = style.panels(2, 2)
    arms = _arms(config, "small", "large", "warmup")
    early = _arms(config, "large", "warmup", "freeze_fc")
    _accuracy(axes[0, 0], config, arrays, arms, "fig4a_val_acc")
    _rates(axes[0, 1], config, arrays, arms)
    _diagonals(axes[1, 0], config, arrays, arms)
    _accuracy(axes[1, 1], config, arrays, early, "fig4d_val_acc")
    axes[1, 1].set_xlim(0.5, config["warmup_epochs"] + 0.5)
    titles = (
        "(a) Test accuracy",
        "(b) Learning rate",
        "(c) Before against after the warmup",
        "(d) Test accuracy until the end of the warmup",
    )
    for ax, title in zip(axes.flat, titles, strict=True):
        ax.set_title(title, loc="left")
    figure.suptitle(f"Figure 4 - {words}", fontsize=9)
    style.save(figure, folder, "figure4")


def _accuracy(ax, config, arrays, arms, table):
    for arm in arms:
        values = 100 * arrays[f"{arm}/test_accuracy"]
        epochs = 1 + np.arange(values.shape[1])
        style.band(ax, epochs, values, color=_COLORS[arm], label=WORDS[arm], lw=1.2)
    if _is_papers(config):
        found = paper.table(f"closer_look/{table}")
        for arm in arms:
            ax.plot(found["epoch"] + 1, found[PAPER[arm]], **style.PAPER)
        ax.plot([], [], **style.PAPER, label="paper (grey)")
    ax.set(xlabel="epochs trained", ylabel="accuracy (%)")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend()


def _rates(ax, config, arrays, arms):
    epochs = np.arange(config["epochs"])
    for arm in arms:
        ax.plot(
            epochs,
            arrays[f"{arm}/rate_rest"],
            color=_COLORS[arm],
            label=WORDS[arm],
            drawstyle="steps-post",
        )
    ax.set(xlabel="epoch (from 0)", ylabel="learning rate (log scale)", yscale="log")
    ax.legend()


def _diagonals(ax, config, arrays, arms):
    maps.diagonals(
        ax,
        {WORDS[arm]: arrays[f"{arm}/similarity"] for arm in arms},
        list(arrays["layers"]),
        colors={WORDS[arm]: _COLORS[arm] for arm in arms},
        floor=np.diagonal(arrays["similarity_floor"]),
    )
    if _is_papers(config):
        found = paper.table("closer_look/fig4c_cca")
        for arm in arms:
            ax.plot(found["idx"], found[PAPER[arm]], **style.PAPER)
    ax.set(ylabel=f"similarity ({config['measure']})")
    ax.legend()


def _figure5(folder, config, arrays, words):
    found = {
        f"{WORDS[arm]}: before against after": arrays[f"{arm}/similarity"].mean(0)
        for arm in _arms(config, "small", "large", "warmup")
    }
    if "warmup" in config["arms"]:
        later = arrays["warmup/similarity_later"].mean(0)
        found["warmup: after it against the end"] = later
    title = f"Figure 5, mean over seeds - {words}"
    label = f"{config['measure']} (dots: not above the noise floor)"
    floor = arrays["similarity_floor"]
    _maps(folder, "figure5", title, label, found, list(arrays["layers"]), floor)
    if _is_papers(config):
        theirs = [paper.similarity_map(f"closer_look/{name}") for name in PAPER_MAPS]
        layers = list(theirs[0].rows)
        values = [one.values for one in theirs]
        found = dict(zip(PAPER_MAPS.values(), values, strict=True))
        title = "Figure 5 as the paper has it: one triangle, mirrored"
        _maps(folder, "figure5_paper", title, "similarity", found, layers, None)


def _maps(folder, name, title, label, found, layers, floor):
    """Up to four maps in a file."""
    figure, axes = style.panels(2, 2, width=9.0, height=4.2)
    for ax in axes.flat[len(found) :]:
        ax.remove()
    for letter, ax, (words, values) in zip(
        "abcd", axes.flat, found.items(), strict=False
    ):
        image = maps.heat_map(ax, values, layers, floor=floor)
        ax.set_title(f"({letter}) {words}", loc="left")
    figure.colorbar(image, ax=list(axes.flat[: len(found)]), label=label, shrink=0.6)
    figure.suptitle(title, fontsize=9)
    style.save(figure, folder, name)


def _controls(folder, config, arrays, words):
    """All arms: accuracy after the warmup and at the end, and what changed."""
    figure, axes = style.panels(1, 3, width=11.0, height=3.6)
    arms = config["arms"]
    places = np.arange(len(arms))[::-1]
    moments = (
        ("end of warmup", config["warmup_epochs"] - 1, "o"),
        ("end of training", -1, "s"),
    )
    for label, epoch, marker in moments:
        for place, arm in zip(places, arms, strict=True):
            values = 100 * arrays[f"{arm}/test_accuracy"][:, epoch]
            filled = _COLORS[arm] if marker == "s" else "none"
            axes[0, 0].plot(
                values,
                np.full(len(values), place + (0.15 if marker == "o" else -0.15)),
                marker,
                color=_COLORS[arm],
                markerfacecolor=filled,
                markersize=5,
            )
        axes[0, 0].plot(
            [], [], marker, color="k", mfc="k" if marker == "s" else "none", label=label
        )
    axes[0, 0].set_yticks(places, [WORDS[arm] for arm in arms])
    axes[0, 0].set(xlabel="test accuracy (%), a mark a seed")
    axes[0, 0].legend(loc="best")
    for arm in arms:
        change = arrays[f"{arm}/change"]
        change = np.where(change > 0, change, np.nan)  # frozen: off a log scale
        style.band(
            axes[0, 1],
            np.arange(change.shape[1]),
            change,
            color=_COLORS[arm],
            label=WORDS[arm],
        )
        similarity = np.diagonal(arrays[f"{arm}/similarity"], axis1=1, axis2=2)
        style.band(
            axes[0, 2],
            np.arange(similarity.shape[1]),
            similarity,
            color=_COLORS[arm],
        )
    kernels = arrays["kernels"]
    axes[0, 1].set_xticks(np.arange(len(kernels)), kernels, rotation=90, fontsize=7)
    axes[0, 1].set(ylabel="relative change of the kernel (log scale)")
    style.log_scale(axes[0, 1])
    layers = [name.partition("_")[2] for name in arrays["layers"]]
    axes[0, 2].set_xticks(np.arange(len(layers)), layers, rotation=90, fontsize=5)
    axes[0, 2].set(ylabel=f"similarity ({config['measure']})", ylim=(0, 1))
    titles = (
        "Accuracy",
        "Weights, until the end of the warmup",
        "Activations, likewise",
    )
    for ax, title in zip(axes.flat, titles, strict=True):
        ax.set_title(title, loc="left")
    figure.legend(
        *axes[0, 1].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=len(arms),
        fontsize=7,
    )
    figure.suptitle(f"All arms - {words}", fontsize=9)
    style.save(figure, folder, "controls")


def _figure15(folder, config, arrays, words):
    figure, axes = style.panels(1, 1, width=6.0, height=3.6)
    ax, arms = axes[0, 0], _arms(config, "warmup", "large", "freeze_fc")
    _accuracy(ax, config, arrays, arms, "")
    if config["dataset"] == "cifar10":
        found = paper.table("closer_look/fig15_resnet")
        net = "ResNet-" + config["model"].removeprefix("resnet")
        rows = {
            setup: row
            for row, (name, setup) in enumerate(
                zip(found["net"], found["setup"], strict=True)
            )
            if name == net
        }
        epochs = [int(name) for name in found if name.isdigit()]
        for arm in arms:
            if PAPER[arm] in rows:
                values = [found[str(epoch)][rows[PAPER[arm]]] for epoch in epochs]
                ax.plot(epochs, values, **style.PAPER)
        ax.plot([], [], **style.PAPER, label="paper (grey)")
        ax.legend()
    ax.set_xlim(0.5, config["warmup_epochs"] + 0.5)
    ax.set_title("Test accuracy until the end of the warmup", loc="left")
    figure.suptitle(f"Figure 15 - {words}", fontsize=9)
    style.save(figure, folder, "figure15")
