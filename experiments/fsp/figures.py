"""Figures of the FSP study: the paper's Figure 3, and its tables beside ours."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.common import charts, fidelity
from experiments.common.charts import Arrays
from experiments.fsp import timing
from kd_heuristics.plots import Axis, Chart, Figure, Reference, Series, Table, style

WORDS = {
    "teacher": "full training",
    "teacher_fast": "a third of the steps",
    "teacher_more": "full, then a third more",
    "fitnet": "hints first",
    "fitnet_3_hints": "three hints first",
    "student": "flow matrices first",
    "shuffled": "shuffled flow matrices first",
    "small": "labels",
    "small_fitnet": "FitNets",
    "small_fsp": "flow matrices",
    "small_kd": "soft targets",
    "small_fsp_kd": "flow matrices, soft targets",
    "transfer_source": "teacher, on its classes",
    "transfer_teacher": "teacher, fine-tuned",
    "transfer_teacher_scratch": "teacher's net, labels",
    "transfer_scratch": "labels",
    "transfer_fitnet": "FitNets",
    "transfer_fsp": "flow matrices",
}
SETS = {
    "1": "CIFAR-10",
    "2": "CIFAR-100",
    "3": "CIFAR-10",
    "4": "CIFAR-100",
    "5": "ImageNet to CUB",
}
CURVES = ("teacher", "teacher_fast", "fitnet", "student")
KINDS = ("fast", "small", "transfer")


def figures(config: dict, results: dict, arrays: Arrays) -> dict[str, Figure]:
    """Returns all figures of a run."""
    found = {"tables": tables(config, results)}
    if results["fidelity"]:
        names = {arm: _long(arm) for arm in results["fidelity"]}
        found["fidelity"] = fidelity.figure(names, arrays)
    if results["fast"]:
        found["figure3"] = figure3(arrays)
    if "timing" in results:
        found["speed"] = speed(results)
    return found


def _long(arm: str) -> str:
    """The display name of a row among all rows."""
    part = arm.partition("_")[0]
    kind = {"small": "small: ", "transfer": "transfer: "}.get(part, "")
    return f"{kind}{WORDS[arm]}"


def speed(results: dict) -> Figure:
    """Draws how much faster nets are after a first stage, beside the paper's ratios."""
    measured = results["timing"]["ratios"]
    ways = list(measured["wall"])
    clocks = {"wall time": measured["wall"], "CPU time": measured["cpu"]}
    steps = {name: row["iterations"] for name, row in results["fast"].items()}
    found = {
        "steps": {way: steps["teacher"] / steps[timing.WAYS[way][0]] for way in ways},
        **clocks,
    }
    marks: tuple[dict[str, Any], ...] = (
        {"color": style.COLORS[0], "marker": "s", "filled": False},
        {"color": style.COLORS[1], "marker": "o"},
        {"color": style.COLORS[2], "marker": "x"},
        {"color": style.GREY, "marker": "D", "paper": True},
    )
    shown = {**found, "paper": timing.PAPERS}
    series = [
        Series(
            [own[way] for way in ways], np.arange(len(ways)), name, line="none", **how
        )
        for (name, own), how in zip(shown.items(), marks, strict=True)
    ]
    x = Axis("times as fast as full training")
    title = "Nets in full against as many after a first stage"
    panels = [
        Chart(title, x, Axis(names=ways), series, [Reference(1.0, axis="x")]),
        _speed_table("Ours: speed", found),
        _speed_table("Paper: speed", {"wall time": timing.PAPERS}, paper=True),
        _seconds("Ours: seconds for 100 steps", results["timing"]["seconds_of_a_step"]),
        _seconds(
            "Paper: seconds for 100 steps",
            {kind: {"wall": own} for kind, own in timing.PAPERS_SECONDS.items()},
            paper=True,
        ),
    ]
    caption = (
        "Speed: how many times as long full training takes as the two stages. Without "
        "the teacher's own training, as the paper counts; on the run's machine"
    )
    size = {"columns": 1, "width": 7.5, "height": 2.6, "subtitle": "{run}"}
    return Figure("Speed", caption, panels, ["share-of-steps"], **size)


def _speed_table(title: str, found: Mapping[str, Mapping], **own: Any) -> Table:
    """Makes a table of ratios, a row for each way."""
    rows = [
        (way, *(f"{values[way]:.2f}" for values in found.values()))
        for way in next(iter(found.values()))
    ]
    return Table(title, ("", *found), rows, **own)


def _seconds(title: str, found: Mapping[str, Mapping], **own: Any) -> Table:
    """Makes a table of seconds for 100 steps, a row for each kind of stage."""
    clocks = [*next(iter(found.values()))]
    rows = [
        (kind, *(f"{100 * its[clock]:.3g}" for clock in clocks))
        for kind, its in found.items()
    ]
    return Table(title, ("stage", *clocks), rows, **own)


def figure3(arrays: Arrays) -> Figure:
    """Draws training loss and test accuracy over the steps of the last stage."""
    loss, accuracy = [], []
    for color, arm in zip(style.COLORS, CURVES, strict=False):
        steps, own = arrays[f"{arm}/step"], (WORDS[arm], color)
        if arm != "fitnet":  # its loss includes soft targets
            loss.append(Series(steps, arrays[f"{arm}/loss"].mean(1), *own))
        values = 100 * arrays[f"{arm}/test_accuracy"].mean(1)
        accuracy.append(Series(steps, values, *own))
    x, nats = Axis("steps of the last stage"), Axis("training loss", "nats", "log")
    panels = [
        Chart("(a) Training loss", x, nats, loss, legend=False),
        Chart("(b) Test accuracy", x, Axis("test accuracy", "%"), accuracy),
    ]
    caption = "Figure 3: training loss and test accuracy"
    size = {"width": 9.5, "height": 3.8}
    return Figure("Figure 3", caption, panels, ["share-of-steps"], **size)


def tables(config: dict, results: dict) -> Figure:
    """Draws each net, the mean and the ensemble, with the paper's on the right."""
    panels, words = [], []
    for kind, name in zip(KINDS, config["paper_tables"], strict=True):
        if not results[kind]:
            continue
        digit = name.removeprefix("table")
        ours = {arm: _ours(row) for arm, row in results[kind].items()}
        title = f"Ours: table {digit} on {config['dataset']}"
        panels.append(_chart(title, ours))
        words.append(_table(f"Ours: {kind}", "ours", results[kind]))
        if kind == "transfer" and not _on_birds(config):
            continue  # a transfer between halves of the classes is another task
        if "paper" not in results:  # on the user's own network or images
            continue
        rows = results["paper"][name]
        theirs = {arm: _papers(row) for arm, row in rows.items()}
        papers = f"Paper: table {digit} ({SETS[digit]})"
        panels.append(_chart(papers, theirs, legend=False, paper=True))
        words.append(_table(f"Paper: {name}", "paper", rows, paper=True))
    caption = "Tables 1 to 5: our accuracies beside the paper's"
    return Figure("Tables", caption, [*panels, *words], width=9.5, height=2.9)


def _on_birds(config: dict) -> bool:
    """Whether the transfer is the paper's: from ImageNet's weights to birds."""
    weights = config.get("source_weights")
    return config["dataset"] == "caltech_birds2011" and weights is not None


def _ours(row: dict) -> dict[str, Any]:
    """Returns the accuracies of one of our rows, by marker."""
    found = {"one net": np.ravel(row["nets"]), "mean": [row["average"]["mean"]]}
    if "ensemble" in row:
        found["ensemble (mean)"] = [row["ensemble"]["mean"]]
    return found


def _papers(row: dict) -> dict[str, list]:
    """Returns the accuracies of one of the paper's rows, by marker."""
    nets = [row[name] for name in ("net1", "net2", "net3") if name in row]
    found = {"one net": nets, "mean": [row["average"]]}
    if "ensemble" in row:
        found["ensemble (mean)"] = [row["ensemble"]]
    return found


def _chart(title: str, rows: Mapping[str, dict], **own: Any) -> Chart:
    """Makes a row per arm, with markers for nets, mean and ensemble."""
    marks: dict[str, dict[str, Any]] = {
        "one net": {"color": "#808080", "marker": "o", "filled": False},
        "mean": {"color": style.COLORS[0], "marker": "D"},
        "ensemble (mean)": {"color": style.COLORS[1], "marker": "*"},
    }
    series = []
    for name, how in marks.items():
        found = [
            (100 * np.array(value, float), place)
            for place, row in enumerate(rows.values())
            for value in row.get(name, ())
        ]
        if found:
            series.append(charts.through(found, name, line="none", **how))
    arms = Axis(names=[WORDS[name] for name in rows])
    return Chart(title, Axis("test accuracy", "%"), arms, series, **own)


def _table(title: str, who: str, rows: Mapping[str, dict], **own: Any) -> Table:
    """Makes a table of the mean and ensemble of each row."""
    cells = [
        (name, *(_cell(row.get(key)) for key in ("average", "ensemble")))
        for name, row in rows.items()
    ]
    return Table(title, (who, "mean of the nets", "ensemble"), cells, **own)


def _cell(value: Any) -> str:
    """Formats an accuracy in per cent, with its spread over seeds if it has one."""
    mean, std = value, None
    if isinstance(value, dict):
        mean, std = value["mean"], value["std"]
    if mean is None:
        return "-"
    spread = "" if std is None else f" ± {100 * std:.2f}"
    return f"{100 * mean:.2f}{spread} %"
