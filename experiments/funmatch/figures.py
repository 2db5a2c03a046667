"""Figures of the FunMatch study: the paper's 1 to 6, its tables, and the other arms."""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.common import fidelity
from experiments.common.charts import Arrays
from experiments.funmatch import lines, published, tables
from experiments.funmatch.claims import of_longest
from kd_heuristics.plots import Axis, Chart, Figure, Reference, Series, style

WORDS = {
    "fix/rs": "fixed, whole image",
    "fix/cc": "fixed, central crop",
    "fix/ic_ens": "fixed, mean of crops",
    "fix/ic_ens_equal": "fixed, equal forwards",
    "ind/rc": "independent mild crops",
    "ind/ic": "independent inception crops",
    "ind/ic+mixup": "independent crops, mixup",
    "same/rc": "same mild crop",
    "same/ic": "same inception crop",
    "mix": "same crop, mixup (FunMatch)",
    "full_size": "at the teacher's resolution",
    "shampoo": "Shampoo, mixup",
    "shampoo_same": "Shampoo, same inception crop",
    "pretrained": "pretrained student",
    "mobilenet_gn": "MobileNet, group norm",
    "mobilenet_bn": "MobileNet, batch norm",
    "mobilenet_small": "MobileNet-Small, group norm",
    "mobilenet_gn_two": "MobileNet, group norm, two teachers",
    "mobilenet_bn_two": "MobileNet, batch norm, two teachers",
    "ensemble": "two teachers",
    "others": "unrelated images",
    "related": "related images",
    "labels": "labels, Adam",
    "labels+mixup": "labels, Adam, mixup",
    "labels_sgd": "labels, SGD",
    "labels_sgd+mixup": "labels, SGD, mixup",
    "transfer": "transfer by labels",
    "transfer+mixup": "transfer by labels, mixup",
}
LINES = ("fix/cc", "ind/ic", "same/ic", "mix", "labels", "labels+mixup")
COLORS = dict(zip(LINES, style.COLORS, strict=True))
CLAIMS = ["longest", "patience"]


def figures(config: dict, results: dict, arrays: Arrays) -> dict[str, Figure]:
    """Returns all figures of a run."""
    found = {
        "patience": patience(config, results),
        "variants": variants(results),
        "curves": curves(config, arrays),
    }
    faithful = of_longest(results["arms"])
    if any("/train/" in name for name in faithful):
        names = {arm: WORDS[arm] for arm in results["arms"]}
        found["fidelity"] = fidelity.figure(names, faithful)
    own, distances = (
        {
            arm: {int(e): _values(run, key, scale) for e, run in lengths.items()}
            for arm, lengths in results["arms"].items()
        }
        for key, scale in (("test_accuracy", 100), ("test_kl", 1))
    )
    if {"shampoo", "shampoo_same", "pretrained"} & {*own}:
        found["figure5"] = lines.cheaper(own, distances)
    if {"others", "related"} & {*own}:
        found["figure6"] = lines.images({config["dataset"]: own})
    preset = tables.preset_of(config)
    if preset is not None:
        found |= tables.figures(tables.of_run(config, results), [preset])
    return found


def _values(run: Mapping[str, Any], key: str, scale: float) -> np.ndarray:
    """The seeds' values; a student that diverged has null, read as NaN."""
    return scale * np.array(run[key]["values"], float)


def _own(arm: str) -> tuple[str, str]:
    """Returns the name and color of an arm."""
    return WORDS[arm], COLORS.get(arm, style.GREY)


def patience(config: dict, results: dict) -> Figure:
    """Plots accuracy and distance from the teacher against epochs (Figures 1, 2, 4)."""
    ticks = [setting["epochs"] for setting in config["settings"]]
    x = Axis("epochs", scale="log", ticks=ticks)
    accuracy = _lengths(config, results, "test_accuracy", 100)
    panels = [
        Chart(
            "(a) Ours: test accuracy",
            x,
            Axis("test accuracy", "%"),
            [*accuracy, *_alone(config, results)],
            [_teacher(results)],
            legend=False,
        ),
        Chart(
            "(b) Ours: distance from the teacher",
            x,
            Axis("test KL from the teacher", "nats"),
            _lengths(config, results, "test_kl", 1),
            legend=False,
        ),
        _papers(),
    ]
    caption = "Figures 1, 2 and 4: accuracy and distance from the teacher over epochs"
    size = {"columns": 3, "width": 12.0, "height": 4.4, "legend_below": True}
    return Figure("Patience", caption, panels, CLAIMS, **size)


def _teacher(results: dict, **axis: Any) -> Reference:
    return Reference(100 * results["teacher_accuracy"]["test"], "the teacher", **axis)


def _lengths(config: dict, results: dict, key: str, scale: float) -> list[Series]:
    """Makes a series of values against epochs for each main arm."""
    found, others = [], itertools.cycle(style.COLORS)
    for arm in _main(config, results):
        lengths = results["arms"][arm]
        values = np.array([_values(run, key, scale) for run in lengths.values()])
        epochs = [int(length) for length in lengths]
        own = _own(arm) if arm in COLORS else (WORDS[arm], next(others))
        line = "solid" if arm in COLORS else "dash"
        found.append(Series(epochs, values.T, *own, marker="o", line=line))
    return found


def _main(config: dict, results: dict) -> list[str]:
    """The main arms of which trainings of several lengths ran, else of any."""
    ran = [arm for arm in config["main"] if arm in results["arms"]]
    return [arm for arm in ran if len(results["arms"][arm]) > 1] or ran


def _alone(config: dict, results: dict) -> list[Series]:
    """Returns the students of labels that were trained at one length only."""
    found = []
    alone = [a for a in ("labels", "labels+mixup") if a not in config["main"]]
    for arm in alone:
        for epochs, run in results["arms"].get(arm, {}).items():
            mean = 100 * np.array([run["test_accuracy"]["mean"]], float)
            own = _own(arm)
            found.append(Series([int(epochs)], mean, *own, line="none", marker="x"))
    return found


def _papers() -> Chart:
    """Plots the paper's table 3 (ImageNet)."""
    rows = [
        row
        for row in published.table3()
        if row.preset == "imagenet" and row.arm in COLORS
    ]
    series = [
        Series([*row.cells], [*row.cells.values()], *_own(row.arm), marker="o")
        for row in rows
    ]
    ticks = sorted({epochs for row in rows for epochs in row.cells})
    x = Axis("epochs", scale="log", ticks=ticks)
    title = "(c) The paper's: ImageNet"
    return Chart(title, x, Axis("accuracy", "%"), series, paper=True)


def variants(results: dict) -> Figure:
    """Plots all arms (Figure 3 and others) at the length that all share."""
    runs = _at_one_length(results)
    epochs = {run["setting"]["epochs"] for run in runs.values()}
    length = f"{epochs.pop():,} epochs" if len(epochs) == 1 else "several lengths"
    # Arms that learn labels are far from the teacher and would compress the scale.
    means = [run["test_kl"]["mean"] for arm, run in runs.items() if "labels" not in arm]
    finite = [mean for mean in means if mean is not None]
    near = (0, 1.15 * max(finite)) if finite else (None, None)
    arms = Axis(names=[WORDS[arm] for arm in runs])
    axes = {
        "test_accuracy": Axis("test accuracy", "%"),
        "test_agreement": Axis("test agreement with the teacher", "%"),
        "test_kl": Axis("test KL from the teacher", "nats", limits=near),
    }
    lines = {"test_accuracy": [_teacher(results, axis="x")]}
    panels = [
        Chart(
            axis.label,
            axis,
            arms,
            _marks(runs, key, 100 if axis.unit == "%" else 1),
            lines.get(key, ()),
            legend=False,
        )
        for key, axis in axes.items()
    ]
    title = f"Arms after {length} (dotted: the teacher)"
    caption = "Figure 3 and the other arms, at one length"
    size = {"columns": 3, "width": 12.0, "height": 1.2 + 0.24 * len(runs)}
    return Figure(title, caption, panels, [*CLAIMS, "others"], **size)


def _marks(runs: Mapping[str, Any], key: str, scale: float) -> list[Series]:
    """Makes a row for each arm, with its seeds and their mean."""
    series = []
    for row, (arm, run) in enumerate(runs.items()):
        values = scale * np.array(run[key]["values"], float)
        color = style.COLORS[1] if arm == "mix" else style.COLORS[0]
        name, place = WORDS[arm], np.full(len(values), row)
        marks: dict[str, Any] = {"marker": "o", "filled": False, "line": "none"}
        mean: dict[str, Any] = {"marker": "D", "color": color, "line": "none"}
        if row:  # the first has the entries of the legend
            marks["legend"] = mean["legend"] = ""
        else:
            marks["legend"], mean["legend"] = "one seed", "mean"
        series += [
            Series(values, place, f"{name}, one seed", "#808080", **marks),
            Series([values.mean()], [row], name, **mean),
        ]
    return series


def _at_one_length(results: dict) -> dict[str, Any]:
    """Returns each arm at the longest length that all share, else at its longest."""
    lengths = [set(runs) for runs in results["arms"].values()]
    common = sorted(set.intersection(*lengths), key=int)
    return {
        arm: runs[common[-1]] if common else runs[max(runs, key=int)]
        for arm, runs in results["arms"].items()
    }


def curves(config: dict, arrays: Arrays) -> Figure:
    """Plots the distance from the teacher over the longest training (overfitting)."""
    epochs = config["settings"][-1]["epochs"]
    stages = {arm: f"{arm.replace('/', '-')}@{epochs}" for arm in config["main"]}

    def chart(title, key, scale, y, legend=False):
        series = [
            Series(
                arrays[f"{stage}/step"], scale * arrays[f"{stage}/{key}"], *_own(arm)
            )
            for arm, stage in stages.items()
            if f"{stage}/{key}" in arrays
        ]
        return Chart(title, Axis("steps"), y, series, legend=legend)

    train, validation = (
        Axis(f"{part} KL", "nats", "log") for part in ("training", "validation")
    )
    accuracy = Axis("validation accuracy", "%")
    panels = [
        chart("(a) Distance on training views", "kl", 1, train, legend=True),
        chart("(b) Distance on validation images", "validation_kl", 1, validation),
        chart("(c) Accuracy", "validation_accuracy", 100, accuracy),
    ]
    title = f"The longest training, {epochs:,} epochs"
    size = {"columns": 3, "width": 12.0, "height": 3.4}
    return Figure(title, "The longest training", panels, **size)
