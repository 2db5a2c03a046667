"""The figures of the SGDR study: 2, 3 and 11 to 14 of the paper, and the barriers."""

from collections.abc import Iterator, Mapping

import numpy as np

from experiments import charts
from kd_heuristics import paper
from kd_heuristics.plots import style
from kd_heuristics.plots.figure import (
    Axis,
    Chart,
    Figure,
    LossSurface,
    Reference,
    Series,
)

Arrays = Mapping[str, np.ndarray]

ARMS = {"sgdr": "SGDR", "step": "step decay", "cosine": "one cosine"}
COLORS = dict(zip(ARMS, style.COLORS, strict=False))
PAPER_ARMS = {"sgdr": "SGDR", "step": "SGD_step_decay"}
PAPER_MAPS = {
    "restart": ("closer_look/fig14a_sgdr_150_155", (150, 155)),
    "first-last": ("closer_look/fig14b_sgdr_10_150", (10, 150)),
}
PLANES = {  # of the pairs in this order
    "figure3": ("Figure 3", "loss on the plane of two iterates and their bend"),
    "figures12_13": ("Figures 12 and 13", "another such plane"),
}


def figures(config: dict, results: dict, arrays: Arrays) -> dict[str, Figure]:
    """All figures of a run."""
    del results
    planes = {
        name: plane(pair, title, words, config["first_seed"], arrays)
        for (name, (title, words)), pair in zip(
            PLANES.items(), config["planes"], strict=False
        )
    }
    return {
        "figure2": figure2(config, arrays),
        **planes,
        "figure11": figure11(config, arrays),
        "figure14": figure14(config, arrays),
        "barriers": barriers(config, arrays),
    }


def figure2(config: dict, arrays: Arrays) -> Figure:
    """Accuracy, learning rates, and train loss between iterates."""
    hidden = config["dataset"] != "cifar10"  # the paper's task is another
    x = Axis(label="epoch (from 0)")
    accuracy, rates = [], []
    for arm, name in ARMS.items():
        own = {"name": name, "color": COLORS[arm]}
        values = 100 * arrays[f"{arm}/test_accuracy"]
        accuracy.append(Series(x=np.arange(values.shape[1]), y=values, **own))
        rate = {"x": arrays[f"{arm}/rate_epoch"], "y": arrays[f"{arm}/rate"]}
        rates.append(Series(**rate, line="steps", **own))
    table = paper.table("closer_look/fig2a_test_acc")
    for marker, (arm, column) in zip("os", PAPER_ARMS.items(), strict=True):
        place = {"x": table["epoch"], "y": table[column], "name": f"paper: {ARMS[arm]}"}
        how = {"line": "none", "marker": marker, "paper": True, "hidden": hidden}
        accuracy.append(Series(**place, **how))
    paths = [
        _paths(title, arm, config, arrays, hidden)
        for arm, title in (
            ("sgdr", "(c) SGDR: between its iterates"),
            ("step", "(d) Step decay: between its iterates"),
        )
    ]
    return Figure(
        title="Figure 2",
        caption="Figure 2: accuracy, learning rates, and train loss between iterates",
        claims=("barrier",),
        panels=(
            Chart(
                title="(a) Test accuracy",
                x=x,
                y=Axis(label="accuracy", unit="%"),
                series=tuple(accuracy),
            ),
            Chart(
                title="(b) Learning rate",
                x=x,
                y=Axis(label="learning rate"),
                series=tuple(rates),
            ),
            *paths,
        ),
    )


def _paths(title, arm, config, arrays, hidden) -> Chart:
    series = [*_along(arm, config, arrays, "train_loss", 1)]
    table = paper.table("closer_look/fig2cd_train_loss")
    run = PAPER_ARMS[arm].split("_")[0]
    for pair in dict.fromkeys(table["pair"][table["run"] == run]):
        rows = (table["run"] == run) & (table["pair"] == pair)
        for column, line, words in (
            ("segment", "dash", "segment"),
            ("mc_curve", "solid", "chain"),
        ):
            place = {"x": table["t"][rows], "y": table[column][rows]}
            how = {"line": line, "paper": True, "hidden": hidden}
            series.append(Series(**place, name=f"paper: {pair}, {words}", **how))
    return Chart(
        title=title,
        x=Axis(label="t along the path"),
        y=Axis(label="train loss", unit="nats", scale="log"),
        series=tuple(series),
    )


def _along(arm, config, arrays, metric, scale) -> Iterator[Series]:
    """Segments, dashed, and chains of an arm; still images name the first segment."""
    dashed = "segments (dashed)"
    for color, (a, b) in zip(style.COLORS, config[f"{arm}_pairs"], strict=False):
        for path, line, legend in (
            ("segment", "dash", dashed),
            ("chain", "solid", f"w{a} to w{b}"),
        ):
            yield Series(
                x=arrays["t"],
                y=scale * arrays[f"{arm}/{a}-{b}/{path}/{metric}"],
                name=f"w{a} to w{b}, {path}",
                legend=legend,
                color=color,
                line=line,
            )
        dashed = ""


def figure11(config: dict, arrays: Arrays) -> Figure:
    """Accuracies and test loss along the paths, which Figure 2 leaves out."""
    metrics = (
        ("train_accuracy", Axis(label="train accuracy", unit="%"), 100),
        ("test_accuracy", Axis(label="test accuracy", unit="%"), 100),
        ("test_loss", Axis(label="test loss", unit="nats", scale="log"), 1),
    )
    panels = [
        Chart(
            title=f"{words}: {y.label}",
            x=Axis(label="t along the path"),
            y=y,
            series=tuple(_along(arm, config, arrays, metric, scale)),
            legend=metric == "train_accuracy",
        )
        for arm, words in (("sgdr", "SGDR"), ("step", "Step decay"))
        for metric, y, scale in metrics
    ]
    return Figure(
        title="Figure 11",
        caption="Figure 11: what Figure 2 leaves out along the paths",
        claims=("chain-gain",),
        panels=tuple(panels),
        columns=3,
        width=11.0,
        height=2.8,
    )


def plane(pair, title: str, words: str, seed: int, arrays: Arrays) -> Figure:
    """Losses on the plane of a pair, the iterates between on it."""
    key = f"plane-{pair[0]}-{pair[1]}"
    anchors = arrays[f"{key}/anchors"]
    first, second, bend = anchors
    run = np.stack([first, *arrays[f"{key}/affine"], second])
    epochs = [f"w{epoch}" for epoch in arrays[f"{key}/epochs"]]
    names = (f"w{pair[0]}", f"w{pair[1]}", "bend")

    def white(places, **how):
        return Series(**_place(places), color="#ffffff", **how)

    series = (
        white([first, bend, second], name="chain"),
        white([first, second], name="segment", line="dash"),
        Series(**_place(run), name="training", color=style.COLORS[1], marker="."),
        white(anchors, name="networks", line="none", marker="o", labels=names),
        Series(
            **_place(run[1:-1]),
            name="iterates",
            color="#FFD0A0",
            line="none",
            labels=tuple(epochs),
        ),
    )
    parts = {part: arrays[f"{key}/{part}_loss"] for part in ("train", "test")}
    return Figure(
        title=f"{title}, seed {seed}",
        subtitle="{run}",
        caption=f"{title}: {words}",
        claims=("chain-gain",),
        panels=(
            LossSurface(
                title=f"The plane of w{pair[0]}, w{pair[1]} and the bend between them",
                xs=arrays[f"{key}/xs"],
                ys=arrays[f"{key}/ys"],
                losses=parts,
                series=series,
            ),
        ),
        width=10.0,
        height=4.2,
    )


def _place(points) -> dict[str, np.ndarray]:
    x, y = np.reshape(points, (-1, 2)).T
    return {"x": x, "y": y}


def figure14(config: dict, arrays: Arrays) -> Figure:
    """Both maps, their signed difference, the diagonals; the paper's maps."""
    layers, measure = arrays["layers"], config["measure"]
    restart, first = config["map_pairs"]
    labels = [f"w{a} against w{b}" for a, b in (restart, first)]
    found = {
        name: arrays[f"maps/{name}"]
        for name in ("restart", "first-last", "seeds", "floor")
    }
    mean = {name: values.mean(0) for name, values in found.items()}
    label = f"{measure} (dots: not above the noise floor)"
    ours = [
        charts.similarity_map(
            f"{words}: {which}",
            mean[name],
            layers,
            floor=mean["floor"],
            label=label,
            **_epochs(*pair),
        )
        for words, which, name, pair in (
            ("(a) Over a restart", labels[0], "restart", restart),
            ("(b) First against last", labels[1], "first-last", first),
        )
    ]
    change = charts.similarity_map(
        "(c) Difference",
        mean["restart"] - mean["first-last"],
        layers,
        scale="signed",
        label="(a) minus (b)",
    )
    lines = dict(
        zip((*labels, "another seed, same epoch", "floor"), found.values(), strict=True)
    )
    del lines["floor"]
    diagonals = charts.diagonals(
        "(d) A layer with itself",
        {
            name: (values, color)
            for color, (name, values) in zip(style.COLORS, lines.items(), strict=False)
        },
        layers,
        measure,
        mean["floor"],
        _papers_diagonals(len(layers), config["dataset"] != "cifar10"),
    )
    theirs = [
        charts.similarity_map(
            f"The paper's: {a} against {b} (one triangle, mirrored)",
            paper.similarity_map(file).values,
            paper.similarity_map(file).rows,
            still=False,
            **_epochs(a, b),
        )
        for file, (a, b) in PAPER_MAPS.values()
    ]
    return Figure(
        title="Figure 14, mean over seeds",
        caption="Figure 14: layers over a restart, and from first to last",
        claims=("similarity",),
        panels=(*ours, change, diagonals, *theirs),
        height=4.2,
    )


def _epochs(a: int, b: int) -> dict[str, str]:
    return {"y": f"epoch {a}", "x": f"epoch {b}"}


def _papers_diagonals(count: int, hidden: bool) -> list[Series]:
    """VGG-11-BN's layers, whatever ours are: on a scale of depth."""
    found = []
    for name, (file, _) in PAPER_MAPS.items():
        values = np.diagonal(paper.similarity_map(file).values)
        depth = np.linspace(0, count - 1, len(values))
        words = f"paper: {name}, by depth"
        found.append(Series(x=depth, y=values, name=words, paper=True, hidden=hidden))
    return found


def barriers(config: dict, arrays: Arrays) -> Figure:
    """How high the segment rises above its worse end, against the distance."""
    series, highest = [], 0.0
    for arm, name in ARMS.items():
        pairs = config["step_pairs" if arm == "step" else "sgdr_pairs"]
        for number, (a, b) in enumerate(pairs):
            losses = arrays[f"{arm}/{a}-{b}/segment/train_loss"]
            worse = np.maximum(losses[:, 0], losses[:, -1])
            barrier = 100 * (losses[:, 1:-1].max(1) / worse - 1)
            distance = arrays[f"{arm}/{a}-{b}/distance"]
            own = {"color": COLORS[arm], "line": "none"}
            legend = name if number == 0 else ""
            words = {"name": f"{name}, w{a} to w{b}", "legend": legend}
            series.append(Series(x=distance, y=barrier, marker="o", **words, **own))
            middle = {"x": [distance.mean()], "y": [barrier.mean()]}
            series.append(Series(**middle, labels=(f"{a}-{b}",), **own))
            highest = max(highest, barrier.max())
    threshold = Reference(
        value=100 * config["smallest_effect"], name="smallest that counts"
    )
    return Figure(
        title="Barriers and distances",
        caption="Barriers beside the distance of the two networks",
        claims=("barrier",),
        panels=(
            Chart(
                title="Highest point of each segment",
                x=Axis(label="distance of the two networks (Euclidean, all weights)"),
                y=Axis(
                    label="highest point of the segment\nabove its worse end",
                    unit="% of its loss",
                    scale="symlog" if highest > 100 else "linear",
                ),
                series=tuple(series),
                references=(threshold,),
            ),
        ),
        columns=1,
        width=6.0,
        height=3.6,
    )
