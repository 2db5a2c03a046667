"""The figures of the FunMatch study: 1 to 4 of the paper, and the arms beside them."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from kd_heuristics import paper
from kd_heuristics.plots import style
from kd_heuristics.plots.figure import Axis, Chart, Figure, Reference, Series

Arrays = Mapping[str, np.ndarray]

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
    "shampoo": "Shampoo",
    "pretrained": "pretrained student",
    "mobilenet_gn": "MobileNet, group norm",
    "mobilenet_bn": "MobileNet, batch norm",
    "ensemble": "two teachers",
    "others": "other images",
    "labels": "labels, Adam",
    "labels+mixup": "labels, Adam, mixup",
    "labels_sgd": "labels, SGD",
    "labels_sgd+mixup": "labels, SGD, mixup",
}
LINES = ("fix/cc", "ind/ic", "same/ic", "mix", "labels", "labels+mixup")
COLORS = dict(zip(LINES, style.COLORS, strict=True))


def figures(config: dict, results: dict, arrays: Arrays) -> dict[str, Figure]:
    """All figures of a run."""
    return {
        "patience": patience(config, results),
        "variants": variants(results),
        "curves": curves(config, arrays),
    }


def _own(arm: str) -> dict[str, str]:
    return {"name": WORDS[arm], "color": COLORS.get(arm, style.GREY)}


def patience(config: dict, results: dict) -> Figure:
    """Figures 1, 2 and 4: accuracy and distance from the teacher against epochs."""
    ticks = tuple(setting["epochs"] for setting in config["settings"])
    x = Axis(label="epochs", scale="log", ticks=ticks)
    teacher = Reference(
        value=100 * results["teacher_accuracy"]["test"], name="the teacher"
    )
    accuracy = Chart(
        title="(a) Ours: test accuracy",
        x=x,
        y=Axis(label="test accuracy", unit="%"),
        series=(
            *_lengths(config, results, "test_accuracy", 100),
            *_alone(config, results),
        ),
        references=(teacher,),
        legend=False,
    )
    distance = Chart(
        title="(b) Ours: distance from the teacher",
        x=x,
        y=Axis(label="KL from the teacher, test", unit="nats"),
        series=tuple(_lengths(config, results, "test_kl", 1)),
        legend=False,
    )
    return Figure(
        title="Patience",
        caption="Figures 1, 2 and 4: accuracy and distance from the teacher by epochs",
        claims=("longest", "patience"),
        panels=(accuracy, distance, _papers()),
        columns=3,
        width=12.0,
        height=4.4,
        legend_below=True,
    )


def _lengths(config: dict, results: dict, key: str, scale: float) -> list[Series]:
    found = []
    for arm in config["main"]:
        lengths = results["arms"][arm]
        # Null, of a student that diverged, is NaN.
        values = np.array([run[key]["values"] for run in lengths.values()], float)
        epochs = [int(length) for length in lengths]
        found.append(Series(x=epochs, y=scale * values.T, marker="o", **_own(arm)))
    return found


def _alone(config: dict, results: dict) -> list[Series]:
    """The students of labels, where they were trained at one length."""
    return [
        Series(
            x=[int(epochs)],
            y=[100 * np.array(run["test_accuracy"]["mean"], float)],
            line="none",
            marker="x",
            **_own(arm),
        )
        for arm in ("labels", "labels+mixup")
        if arm not in config["main"]
        for epochs, run in results["arms"].get(arm, {}).items()
    ]


def _papers() -> Chart:
    """Table 3, ImageNet."""
    columns = paper.table("funmatch/table3")
    epochs = np.array([int(key) for key in columns if key != "run"])
    series = []
    for index, run in enumerate(map(str, columns["run"])):
        if run in COLORS:
            values = np.array([columns[str(key)][index] for key in epochs])
            known = np.isfinite(values)
            place = {"x": epochs[known], "y": values[known], "marker": "o"}
            series.append(Series(**place, **_own(run)))
    return Chart(
        title="(c) The paper's, ImageNet",
        x=Axis(label="epochs", scale="log", ticks=tuple(epochs.tolist())),
        y=Axis(label="accuracy", unit="%"),
        series=tuple(series),
    )


def variants(results: dict) -> Figure:
    """Figure 3 and the other arms, each at the length that all arms have."""
    runs = _at_one_length(results)
    epochs = {run["setting"]["epochs"] for run in runs.values()}
    length = f"{epochs.pop():,} epochs" if len(epochs) == 1 else "several lengths"
    # Arms that learn labels are far from the teacher, and would hide the others.
    means = [run["test_kl"]["mean"] for arm, run in runs.items() if "labels" not in arm]
    finite = [mean for mean in means if mean is not None]
    near = {"limits": (0, 1.15 * max(finite))} if finite else {}
    teacher = Reference(
        value=100 * results["teacher_accuracy"]["test"], axis="x", name="the teacher"
    )
    panels = (
        ("test_accuracy", 100, Axis(label="test accuracy", unit="%"), (teacher,)),
        (
            "test_agreement",
            100,
            Axis(label="agreement with the teacher, test", unit="%"),
            (),
        ),
        (
            "test_kl",
            1,
            Axis(label="KL from the teacher, test", unit="nats", **near),
            (),
        ),
    )
    return Figure(
        title=f"Arms after {length} (dotted: the teacher)",
        caption="Figure 3 and the other arms, at one length",
        claims=("longest", "patience"),
        panels=tuple(
            Chart(
                title=axis.label,
                x=axis,
                y=Axis(names=tuple(WORDS[arm] for arm in runs)),
                series=tuple(_marks(runs, key, scale)),
                references=references,
                legend=False,
            )
            for key, scale, axis, references in panels
        ),
        columns=3,
        width=12.0,
        height=1.2 + 0.24 * len(runs),
    )


def _marks(runs: Mapping[str, Any], key: str, scale: float) -> list[Series]:
    """A row an arm: each seed, and their mean."""
    series = []
    for row, (arm, run) in enumerate(runs.items()):
        values = scale * np.array(run[key]["values"], float)
        color = style.COLORS[1] if arm == "mix" else style.COLORS[0]
        seeds = {"x": values, "y": np.full(len(values), row), "color": "#808080"}
        how = {"line": "none", "marker": "o", "filled": False}
        series.append(Series(name=f"{WORDS[arm]}, a seed", **seeds, **how))
        mean = {"x": [values.mean()], "y": [row], "color": color}
        series.append(Series(name=WORDS[arm], line="none", marker="D", **mean))
    return series


def _at_one_length(results: dict) -> dict[str, Any]:
    """Each arm at the length of the arms that have one only, else at their longest."""
    lengths = [set(runs) for runs in results["arms"].values()]
    common = sorted(set.intersection(*lengths), key=int)
    return {
        arm: runs[common[-1]] if common else runs[max(runs, key=int)]
        for arm, runs in results["arms"].items()
    }


def curves(config: dict, arrays: Arrays) -> Figure:
    """Distance from the teacher over the longest training: who overfits."""
    epochs = config["settings"][-1]["epochs"]
    panels = (
        ("kl", 1, "(a) On the training views", "KL, training"),
        ("validation_kl", 1, "(b) On validation images", "KL, validation"),
        ("validation_accuracy", 100, "(c) Accuracy", "validation accuracy"),
    )
    stages = {arm: f"{arm.replace('/', '-')}@{epochs}" for arm in config["main"]}
    present = {arm: s for arm, s in stages.items() if f"{s}/kl" in arrays}
    return Figure(
        title=f"The longest training, {epochs:,} epochs",
        caption="The longest training",
        panels=tuple(
            Chart(
                title=title,
                x=Axis(label="steps"),
                y=Axis(label=label, unit="%")
                if scale == 100
                else Axis(label=label, unit="nats", scale="log"),
                series=tuple(
                    Series(
                        x=arrays[f"{stage}/step"],
                        y=scale * arrays[f"{stage}/{key}"],
                        **_own(arm),
                    )
                    for arm, stage in present.items()
                ),
                legend=key == "kl",
            )
            for key, scale, title, label in panels
        ),
        columns=3,
        width=12.0,
        height=3.4,
    )
