"""The figures of the warmup study: 4, 5 and 15 of the paper, and the controls."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from experiments import charts
from kd_heuristics import paper
from kd_heuristics.plots import style
from kd_heuristics.plots.figure import Axis, Chart, Figure, HeatMap, Series

Arrays = Mapping[str, np.ndarray]

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
COLORS = dict(zip(WORDS, (*style.COLORS, "#999999", "#666666", "#8C510A"), strict=True))


def figures(config: dict, results: dict, arrays: Arrays) -> dict[str, Figure]:
    """All figures of a run."""
    del results
    found = {"figure4": figure4(config, arrays), "figure5": figure5(config, arrays)}
    if _is_papers(config):
        found["figure5_paper"] = figure5_paper()
    if config["model"].startswith("resnet"):
        found["figure15"] = figure15(config, arrays)
    return found | {"controls": controls(config, arrays)}


def _arms(config, *names) -> list[str]:
    return [name for name in names if name in config["arms"]]


def _is_papers(config) -> bool:
    return config["dataset"] == "cifar10" and config["model"] == "vgg11_bn"


def _own(arm) -> dict[str, str]:
    return {"name": WORDS[arm], "color": COLORS[arm]}


def figure4(config: dict, arrays: Arrays) -> Figure:
    """Accuracy, rates, and what the first epochs change."""
    arms = _arms(config, "small", "large", "warmup")
    early = _arms(config, "large", "warmup", "freeze_fc")
    rates = Chart(
        title="(b) Learning rate",
        x=Axis(label="epoch (from 0)"),
        y=Axis(label="learning rate", scale="log"),
        series=tuple(
            Series(
                x=np.arange(config["epochs"]),
                y=arrays[f"{arm}/rate_rest"],
                line="steps",
                **_own(arm),
            )
            for arm in arms
        ),
    )
    cca = paper.table("closer_look/fig4c_cca")
    changed = charts.diagonals(
        "(c) Each layer before against after the warmup",
        {WORDS[arm]: (arrays[f"{arm}/similarity"], COLORS[arm]) for arm in arms},
        arrays["layers"],
        config["measure"],
        arrays["similarity_floor"],
        _papers(config, arms, cca["idx"], cca) if _is_papers(config) else (),
    )
    return Figure(
        title="Figure 4",
        caption="Figure 4: accuracy, rates, and what the first epochs change",
        claims=("final-accuracy", "early-accuracy/warmup", "fc-similarity"),
        panels=(
            _accuracy("(a) Test accuracy", config, arrays, arms, "fig4a_val_acc"),
            rates,
            changed,
            _accuracy(
                "(d) Test accuracy until the end of the warmup",
                config,
                arrays,
                early,
                "fig4d_val_acc",
                limits=(0.5, config["warmup_epochs"] + 0.5),
            ),
        ),
    )


def _accuracy(title, config, arrays, arms, table=None, papers=(), **axis) -> Chart:
    series = []
    for arm in arms:
        values = 100 * arrays[f"{arm}/test_accuracy"]
        series.append(Series(x=1 + np.arange(values.shape[1]), y=values, **_own(arm)))
    if table is not None:
        found = paper.table(f"closer_look/{table}")
        papers = _papers(config, arms, found["epoch"] + 1, found)
    return Chart(
        title=title,
        x=Axis(label="epochs trained", **axis),
        y=Axis(label="test accuracy", unit="%"),
        series=(*series, *papers),
    )


def _papers(config, arms, x, table) -> list[Series]:
    hidden = not _is_papers(config)
    return [
        Series(x=x, y=table[PAPER[arm]], name=name, paper=True, hidden=hidden)
        for arm in arms
        for name in [f"paper: {WORDS[arm]}"]
    ]


def figure5(config: dict, arrays: Arrays) -> Figure:
    """Layers before against after the warmup; the page has the paper's maps too."""
    label = f"{config['measure']} (dots: not above the noise floor)"

    def ours(letter, words, values, y, x):
        return charts.similarity_map(
            f"({letter}) {words}",
            values.mean(0),
            arrays["layers"],
            floor=arrays["similarity_floor"],
            label=label,
            y=y,
            x=x,
        )

    found = [
        (f"{WORDS[arm]}: before against after", f"{arm}/similarity", "before", "after")
        for arm in _arms(config, "small", "large", "warmup")
    ]
    if "warmup" in config["arms"]:
        words = "warmup: after it against the end"
        found.append((words, "warmup/similarity_later", "after", "end"))
    return Figure(
        title="Figure 5, mean over seeds",
        caption="Figure 5: layers before against after the warmup",
        claims=("fc-similarity",),
        panels=(
            *(
                ours(letter, words, arrays[key], y, x)
                for letter, (words, key, y, x) in zip("abcd", found, strict=False)
            ),
            *_papers_maps(still=False),
        ),
        height=4.2,
    )


def _papers_maps(still: bool) -> list[HeatMap]:
    found = {name: paper.similarity_map(f"closer_look/{name}") for name in PAPER_MAPS}
    return [
        charts.similarity_map(
            f"The paper's, {words} (mirrored)",
            found[name].values,
            found[name].rows,
            label="similarity",
            y="before",
            x="after",
            still=still,
        )
        for name, words in PAPER_MAPS.items()
    ]


def figure5_paper() -> Figure:
    """The paper's own maps."""
    return Figure(
        title="Figure 5 as the paper has it: one triangle, mirrored",
        subtitle="",
        caption="Figure 5 as the paper has it",
        panels=tuple(_papers_maps(still=True)),
        height=4.2,
    )


def figure15(config: dict, arrays: Arrays) -> Figure:
    """ResNets, until the end of the warmup."""
    arms = _arms(config, "warmup", "large", "freeze_fc")
    found = paper.table("closer_look/fig15_resnet")
    net = "ResNet-" + config["model"].removeprefix("resnet")
    epochs = [int(name) for name in found if name.isdigit()]
    papers = [
        Series(
            x=epochs,
            y=[found[str(epoch)][row] for epoch in epochs],
            name=f"paper: {WORDS[arm]}",
            paper=True,
            hidden=config["dataset"] != "cifar10",
        )
        for arm in arms
        for row in np.flatnonzero(
            (found["net"] == net) & (found["setup"] == PAPER[arm])
        )
    ]
    return Figure(
        title="Figure 15",
        caption="Figure 15: ResNets",
        claims=("early-accuracy",),
        panels=(
            _accuracy(
                "Test accuracy until the end of the warmup",
                config,
                arrays,
                arms,
                papers=papers,
                limits=(0.5, config["warmup_epochs"] + 0.5),
            ),
        ),
        columns=1,
        width=6.0,
        height=3.6,
    )


def controls(config: dict, arrays: Arrays) -> Figure:
    """All arms: accuracy after the warmup and at the end, and what changed."""
    arms = config["arms"]
    changes, similarities = [], []
    for arm in arms:
        change = arrays[f"{arm}/change"]
        change = np.where(change > 0, change, np.nan)  # frozen: off a log scale
        changes.append(charts.along_layers(change, **_own(arm)))
        values = np.diagonal(arrays[f"{arm}/similarity"], axis1=1, axis2=2)
        similarities.append(charts.along_layers(values, **_own(arm)))
    panels = (
        _moments(config, arrays, arms),
        Chart(
            title="Weights, until the end of the warmup",
            x=Axis(label="kernel", names=tuple(map(str, arrays["kernels"]))),
            y=Axis(label="relative change of the kernel", scale="log"),
            series=tuple(changes),
            legend=False,
        ),
        Chart(
            title="Activations, likewise",
            x=charts.layers_axis("layer", arrays["layers"]),
            y=Axis(label=f"similarity ({config['measure']})", limits=(0, 1)),
            series=tuple(similarities),
            legend=False,
        ),
    )
    everyone = _accuracy("Test accuracy", config, arrays, arms)
    everyone = dataclasses.replace(everyone, still=False)
    return Figure(
        title="All arms",
        caption="All arms, and controls that the paper lacks",
        claims=("early-accuracy",),
        panels=(*panels, everyone),
        columns=3,
        width=11.0,
        height=3.6,
        legend_below=True,
    )


def _moments(config, arrays, arms: Sequence[str]) -> Chart:
    """A row an arm, a mark a seed: after the warmup and at the end."""
    moments = (
        ("end of warmup", config["warmup_epochs"] - 1, -0.15, "o"),
        ("end of training", -1, 0.15, "s"),
    )
    series = []
    for words, epoch, offset, marker in moments:
        for row, arm in enumerate(arms):
            values = 100 * arrays[f"{arm}/test_accuracy"][:, epoch]
            series.append(
                Series(
                    x=values,
                    y=np.full(len(values), row + offset),
                    name=f"{WORDS[arm]}, {words}",
                    legend=words if row == 0 else "",
                    color=COLORS[arm],
                    line="none",
                    marker=marker,
                    filled=marker == "s",
                )
            )
    return Chart(
        title="Accuracy",
        x=Axis(label="test accuracy, a mark a seed", unit="%"),
        y=Axis(names=tuple(WORDS[arm] for arm in arms)),
        series=tuple(series),
    )
