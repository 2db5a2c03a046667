"""Figures of the FSP study: the paper's Figure 3, and its tables beside ours."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.common import charts, fidelity
from experiments.common.charts import Arrays
from experiments.fsp import timing
from kd_heuristics.plots import Axis, Chart, Figure, Reference, Series, Table, style

WORDS = {
    "teacher": "teacher, all steps",
    "teacher_fast": "teacher's net, a third of the steps",
    "teacher_more": "teacher, a third more steps",
    "fitnet": "student after a hint",
    "fitnet_3_hints": "student after three hints",
    "student": "student after flow matrices",
    "shuffled": "student after shuffled flow matrices",
    "small": "small student, labels alone",
    "small_fitnet": "small student after a hint",
    "small_fsp": "small student after flow matrices",
    "small_kd": "small student, soft targets",
    "small_fsp_kd": "small student after flow matrices, soft targets",
    "transfer_source": "teacher, on its own classes",
    "transfer_teacher": "teacher, fine-tuned",
    "transfer_teacher_scratch": "teacher's net, labels alone",
    "transfer_scratch": "small student, labels alone",
    "transfer_fitnet": "small student after a hint",
    "transfer_fsp": "small student after flow matrices",
}
_TRANSFERS = tuple(arm for arm in WORDS if arm.startswith("transfer_"))
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
        names = {
            arm: f"{WORDS[arm]}, transfer" if arm in _TRANSFERS else WORDS[arm]
            for arm in results["fidelity"]
        }
        found["fidelity"] = fidelity.figure(names, arrays)
    if results["fast"]:
        found["figure3"] = figure3(arrays)
    if "timing" in results:
        found["speed"] = speed(results)
    return found


def speed(results: dict) -> Figure:
    """Draws how much faster nets are after a first stage, beside the paper's ratios."""
    own = "paper" not in results  # the user's network or images
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
        _speed_table(found, {} if own else timing.PAPERS),
        _seconds(
            results["timing"]["seconds_of_a_step"], {} if own else timing.PAPERS_SECONDS
        ),
    ]
    caption = (
        "Speed: how many times as long full training takes as the two stages. Without "
        "the teacher's own training, as the paper counts; on the run's machine"
    )
    size = {"columns": 1, "width": 7.5, "height": 2.6, "subtitle": "{run}"}
    return Figure("Speed", caption, panels, ["share-of-steps"], **size)


def _speed_table(found: Mapping[str, Mapping], papers: Mapping[str, float]) -> Table:
    """Makes a table of ratios, a row for each way, with the paper's beside ours."""
    rows = [
        (way, *(f"{values[way]:.2f}" for values in found.values()))
        + ((f"{papers[way]:.2f}",) if papers else ())
        for way in next(iter(found.values()))
    ]
    head = ("way", *(f"ours, {name}" for name in found))
    return Table(
        "Times as fast", head + (("paper, wall time",) if papers else ()), rows
    )


def _seconds(found: Mapping[str, Mapping], papers: Mapping[str, float]) -> Table:
    """Makes a table of seconds for 100 steps, a row for each kind of stage."""
    clocks = [*next(iter(found.values()))]
    rows = [
        (kind, *(f"{100 * its[clock]:.3g}" for clock in clocks))
        + ((f"{100 * papers[kind]:.3g}",) if papers else ())
        for kind, its in found.items()
    ]
    head = ("stage", *(f"ours, {clock} time" for clock in clocks))
    title = "Seconds for 100 steps"
    return Table(title, head + (("paper, wall time",) if papers else ()), rows)


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
        # A transfer between halves of the classes is another task than the paper's.
        other = kind == "transfer" and not _on_birds(config)
        # Nor has it numbers of the user's own network or images.
        rows = {} if other else results.get("paper", {}).get(name, {})
        words.append(_table(f"Table {digit}", results[kind], rows))
        if rows:
            theirs = {arm: _papers(row) for arm, row in rows.items()}
            papers = f"Paper: table {digit} ({SETS[digit]})"
            panels.append(_chart(papers, theirs, legend=False, paper=True))
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


def _table(title: str, ours: Mapping[str, dict], papers: Mapping[str, dict]) -> Table:
    """Makes a table of the mean and ensemble of each row, the paper's beside ours."""
    both = {"ours": ours} | ({"paper": papers} if papers else {})
    columns = [
        (f"{who}, {words}", [rows.get(arm, {}).get(key) for arm in {**ours, **papers}])
        for key, words in (("average", "mean of nets"), ("ensemble", "ensemble"))
        for who, rows in both.items()
    ]
    columns = [one for one in columns if any(value is not None for value in one[1])]
    cells = [
        (WORDS[arm], *(_cell(values[place]) for _, values in columns))
        for place, arm in enumerate({**ours, **papers})
    ]
    return Table(title, ("net", *(head for head, _ in columns)), cells)


def _cell(value: Any) -> str:
    """Formats an accuracy in per cent, with its spread over seeds if it has one."""
    mean, std = value, None
    if isinstance(value, dict):
        mean, std = value["mean"], value["std"]
    if mean is None:
        return "-"
    spread = "" if std is None else f" ± {100 * std:.2f}"
    return f"{100 * mean:.2f}{spread} %"
