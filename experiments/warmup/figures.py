"""Figures of the warmup study: the paper's 4, 5 and 15, and the controls."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.common import charts, measures, paper
from experiments.common.charts import Arrays
from kd_heuristics.plots import Axis, Chart, Figure, HeatMap, Reference, Series, style

# Column names of the paper's arms.
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
COLORS = dict(zip(WORDS, (*style.COLORS, "#999999", "#666666", "#8C510A"), strict=True))
BEFORE = {"y": "before", "x": "after"}


def figures(config: dict, results: dict, arrays: Arrays) -> dict[str, Figure]:
    """Returns all figures of a run."""
    found = {"figure4": figure4(config, arrays), "figure5": figure5(config, arrays)}
    if _is_papers(config):
        found["figure5_paper"] = figure5_paper()
    if config["model"].startswith("resnet"):
        found["figure15"] = figure15(config, arrays)
    found["layers"] = layers(config, arrays)
    others = other_measures(config, results, arrays)
    found |= {"measures": others, "controls": controls(config, arrays)}
    if config["sharpness_steps"]:
        found["sharpness"] = sharpness(config, arrays)
    return found


def _arms(config: dict, *names: str) -> list[str]:
    """Returns those of the named arms that the run has."""
    return [name for name in names if name in config["arms"]]


def _is_papers(config: dict) -> bool:
    return config["dataset"] == "cifar10" and config["model"] == "vgg11_bn"


def figure4(config: dict, arrays: Arrays) -> Figure:
    """Plots accuracy, learning rates, and changes in the first epochs."""
    arms = _arms(config, "small", "large", "warmup")
    early = _arms(config, "large", "warmup", "freeze_fc")
    accuracy, end, cca = (
        paper.table(f"warmup/{name}")
        for name in ("fig4a_val_acc", "fig4d_val_acc", "fig4c_cca")
    )
    epochs = np.arange(config["epochs"])
    rates = [
        Series(
            epochs, arrays[f"{arm}/rate_rest"], WORDS[arm], COLORS[arm], line="steps"
        )
        for arm in arms
    ]
    changed = charts.diagonals(
        "(c) Each layer, before against after the warmup",
        {WORDS[arm]: (arrays[f"{arm}/similarity"], COLORS[arm]) for arm in arms},
        arrays["layers"],
        config["measure"],
        arrays["similarity_floor"],
        _papers(config, arms, cca["idx"], cca) if _is_papers(config) else (),
    )
    panels = [
        _accuracy(
            "(a) Test accuracy",
            arms,
            arrays,
            _papers(config, arms, accuracy["epoch"] + 1, accuracy),
        ),
        Chart(
            "(b) Learning rate",
            Axis("epoch (from 0)"),
            Axis("learning rate", scale="log"),
            rates,
        ),
        changed,
        _accuracy(
            "(d) Test accuracy until the end of the warmup",
            early,
            arrays,
            _papers(config, early, end["epoch"] + 1, end),
            config["warmup_epochs"],
        ),
    ]
    caption = "Figure 4: accuracy, learning rates, and changes in the first epochs"
    claims = ["final-accuracy", "early-accuracy/warmup", "fc-similarity"]
    return Figure("Figure 4", caption, panels, claims)


def _accuracy(
    title: str,
    arms: Sequence[str],
    arrays: Arrays,
    papers: Sequence[Series] = (),
    last: int | None = None,
) -> Chart:
    """Plots test accuracy against epochs, up to epoch `last`."""
    series = []
    for arm in arms:
        values = 100 * arrays[f"{arm}/test_accuracy"]
        epochs = 1 + np.arange(values.shape[1])
        series.append(Series(epochs, values, WORDS[arm], COLORS[arm]))
    limits = (None, None) if last is None else (0.5, last + 0.5)
    x, y = Axis("epochs trained", limits=limits), Axis("test accuracy", "%")
    return Chart(title, x, y, [*series, *papers])


def _papers(config: dict, arms: Sequence[str], x: Any, table: Any) -> list[Series]:
    own: dict[str, Any] = {"paper": True, "hidden": not _is_papers(config)}
    return [Series(x, table[PAPER[arm]], f"paper: {WORDS[arm]}", **own) for arm in arms]


def layers(config: dict, arrays: Arrays) -> Figure:
    """Plots how much each convolution and FC layer changes, without warmup and with it.

    The paper shows it as one number for each layer and map (Figures 4c and 5).
    """
    arms = _arms(config, "small", "large", "warmup")
    names = list(map(str, arrays["layers"]))
    kept = [i for i, name in enumerate(names) if name.endswith(("_conv", "_fc"))]
    cca = paper.table("warmup/fig4c_cca")
    of = np.isin(cca["layer"], ("Conv", "FC"))
    papers: dict[str, Any] = {"paper": True, "hidden": not _is_papers(config)}
    alike = of.sum() == len(kept)  # the paper's layers are as many as ours
    changes, found = [], {}
    for arm in arms:
        values = np.diagonal(arrays[f"{arm}/similarity"], axis1=1, axis2=2)
        found[arm] = 1 - values[:, kept]
        changes.append(charts.along_layers(found[arm], WORDS[arm], COLORS[arm]))
    theirs = {arm: 1 - cca[PAPER[arm]][of] for arm in arms} if alike else {}
    for arm, values in theirs.items():
        name = f"paper: {WORDS[arm]}"
        changes.append(charts.along_layers(values, name, style.GREY, **papers))
    axis = charts.layers_axis("layer", [names[i] for i in kept])
    y = Axis(f"1 - similarity ({config['measure']})", limits=(0, 1))
    panels = [Chart("(a) Change by the end of the warmup", axis, y, changes)]
    if {"large", "warmup"} <= {*arms}:
        less = [(found["large"] - found["warmup"], "ours", style.COLORS[0], {})]
        if alike:
            gap = theirs["large"] - theirs["warmup"]
            less.append((gap, "paper", style.GREY, papers))
        series = [charts.along_layers(v, n, c, **own) for v, n, c, own in less]
        title = "(b) Change without warmup minus with it"
        panels.append(Chart(title, axis, Axis("difference"), series))
    caption = "Change of each convolution and FC layer, without warmup and with it"
    title, size = "Change of each layer", {"width": 9.5, "height": 3.6}
    return Figure(title, caption, panels, ["fc-change", "fc-similarity"], **size)


def figure5(config: dict, arrays: Arrays) -> Figure:
    """Plots maps before and after the warmup; the page also shows the paper's."""
    found = [
        (f"{WORDS[arm]}: before against after", f"{arm}/similarity", BEFORE)
        for arm in _arms(config, "small", "large", "warmup")
    ]
    if "warmup" in config["arms"]:
        words = "warmup: after warmup against end"
        found.append((words, "warmup/similarity_later", {"y": "after", "x": "end"}))
    own: dict[str, Any] = {"floor": arrays["similarity_floor"]}
    own["label"] = f"{config['measure']} (dots: at or below the noise floor)"
    ours = [
        charts.similarity_map(
            f"({letter}) {words}", arrays[key].mean(0), arrays["layers"], **axes, **own
        )
        for letter, (words, key, axes) in zip("abcd", found, strict=False)
    ]
    panels = [*ours, *_papers_maps(still=False)]
    caption = "Figure 5: similarity of layers before and after the warmup"
    title = "Figure 5, mean over seeds"
    return Figure(title, caption, panels, ["fc-similarity"], height=4.2)


def other_measures(config: dict, results: dict, arrays: Arrays) -> Figure:
    """Plots an arm's map before and after the warmup by every measure."""
    (arm, *_) = _arms(config, "warmup", *config["arms"])

    def draw(title: str, values: np.ndarray, **own: Any) -> HeatMap:
        layers = arrays["layers"]
        return charts.similarity_map(title, values, layers, **BEFORE, **own)

    return measures.figure(config, results, arrays, f"{arm}/similarity", draw)


def _papers_maps(still: bool) -> list[HeatMap]:
    found = {
        words: paper.similarity_map(f"warmup/{name}")
        for name, words in PAPER_MAPS.items()
    }
    own: dict[str, Any] = {"label": "similarity", "still": still, "paper": True}
    return [
        charts.similarity_map(
            f"Paper, {words} (mirrored)", theirs.values, theirs.rows, **BEFORE, **own
        )
        for words, theirs in found.items()
    ]


def figure5_paper() -> Figure:
    """Plots the paper's maps."""
    title = "Figure 5 of the paper: one triangle, mirrored"
    caption = "Figure 5 of the paper"
    return Figure(title, caption, _papers_maps(still=True), subtitle="", height=4.2)


def figure15(config: dict, arrays: Arrays) -> Figure:
    """Plots the accuracy of ResNets until the end of the warmup."""
    arms = _arms(config, "warmup", "large", "freeze_fc")
    found = paper.table("warmup/fig15_resnet")
    net = "ResNet-" + config["model"].removeprefix("resnet")
    epochs = [int(name) for name in found if name.isdigit()]
    papers = []
    for arm in arms:
        its = (found["net"] == net) & (found["setup"] == PAPER[arm])
        for row in np.flatnonzero(its):
            values = [found[str(epoch)][row] for epoch in epochs]
            hidden = config["dataset"] != "cifar10"
            name = f"paper: {WORDS[arm]}"
            papers.append(Series(epochs, values, name, paper=True, hidden=hidden))
    title = "Test accuracy until the end of the warmup"
    panel = _accuracy(title, arms, arrays, papers, config["warmup_epochs"])
    size = {"columns": 1, "width": 6.0, "height": 3.6}
    return Figure(
        "Figure 15", "Figure 15: early accuracy", [panel], ["early-accuracy"], **size
    )


def controls(config: dict, arrays: Arrays) -> Figure:
    """Plots all arms: accuracy after the warmup and at the end, and changes."""
    arms = config["arms"]
    changes, similarities = [], []
    for arm in arms:
        change = arrays[f"{arm}/change"]
        change = np.where(change > 0, change, np.nan)  # 0 if frozen: no logarithm
        changes.append(charts.along_layers(change, WORDS[arm], COLORS[arm]))
        values = np.diagonal(arrays[f"{arm}/similarity"], axis1=1, axis2=2)
        similarities.append(charts.along_layers(values, WORDS[arm], COLORS[arm]))
    kernels = Axis("kernel", names=list(map(str, arrays["kernels"])))
    layers = charts.layers_axis("layer", arrays["layers"])
    relative = Axis("relative change\nof the kernel", scale="log")
    similar = Axis(f"similarity ({config['measure']})", limits=(0, 1))
    weights = "Change of weights during the warmup"
    everyone = _accuracy("Test accuracy", arms, arrays)
    panels = [
        _moments(config, arrays, arms),
        Chart(weights, kernels, relative, changes, legend=False),
        Chart("Similarity of activations", layers, similar, similarities, legend=False),
        dataclasses.replace(everyone, still=False),
    ]
    caption = "All arms, including controls that the paper lacks"
    size = {"columns": 3, "width": 11.0, "height": 3.6, "legend_below": True}
    return Figure("All arms", caption, panels, ["early-accuracy"], **size)


def sharpness(config: dict, arrays: Arrays) -> Figure:
    """Plots rate times top eigenvalue at the first steps, a panel for each block."""
    x = Axis("steps done", scale="log", ticks=config["sharpness_steps"])
    momentum = 2 * (1 + config["momentum"])
    limits = [
        Reference(2, "unstable above, without momentum"),
        Reference(momentum, "unstable above, with momentum"),
    ]
    panels: list[Chart] = []
    for block, words in (("all", "All parameters"), ("fc", "FC layers")):
        series = []
        for arm in config["arms"]:
            values = arrays[f"{arm}/product_{block}"]
            values = np.where(values > 0, values, np.nan)  # 0 if frozen: no logarithm
            place = arrays["sharpness_steps"], values, WORDS[arm]
            series.append(Series(*place, COLORS[arm], marker="o"))
        y = Axis("rate times top eigenvalue", scale="log")
        panels.append(Chart(words, x, y, series, limits, legend=False))
    accuracy = _accuracy("Test accuracy", config["arms"], arrays)
    panels.append(dataclasses.replace(accuracy, legend=False))
    caption = (
        "Does warmup act on sharpness, or on the FC layers alone? The Hessian's top "
        "eigenvalue times the rate (Gilmer et al. 2021; Kalra and Barkeshli 2024), of "
        "the loss of one batch in training mode; frozen layers count as of rate 0"
    )
    size = {"columns": 3, "width": 11.0, "height": 3.6, "legend_below": True}
    return Figure("Sharpness", caption, panels, ["sharpness"], **size)


def _moments(config: dict, arrays: Arrays, arms: Sequence[str]) -> Chart:
    """Plots accuracy after the warmup and at the end, a row for each arm."""
    moments = (
        ("end of warmup", config["warmup_epochs"] - 1, -0.15, "o"),
        ("end of training", -1, 0.15, "s"),
    )
    series = []
    for words, epoch, offset, marker in moments:
        own: dict[str, Any] = {"marker": marker, "filled": marker == "s"}
        for row, arm in enumerate(arms):
            values = 100 * arrays[f"{arm}/test_accuracy"][:, epoch]
            place = values, np.full(len(values), row + offset), f"{WORDS[arm]}, {words}"
            own |= {"legend": "" if row else words, "line": "none"}
            series.append(Series(*place, COLORS[arm], **own))
    x = Axis("test accuracy, one mark per seed", "%")
    rows = Axis(names=[WORDS[arm] for arm in arms])
    return Chart("Accuracy", x, rows, series, legend=False)
