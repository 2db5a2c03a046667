"""Figure 3 and tables 1 to 4 of Yim et al. 2017, ours beside the paper's."""

import numpy as np

from kd_heuristics.files import AnyPath
from kd_heuristics.plots import style
from kd_heuristics.plots.folder import read

_WORDS = {
    "teacher": "full training",
    "teacher_fast": "a third of it",
    "teacher_more": "full, then a third",
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
    "transfer_teacher": "teacher, tuned",
    "transfer_teacher_scratch": "teacher's form, labels",
    "transfer_scratch": "labels",
    "transfer_fitnet": "FitNets",
    "transfer_fsp": "flow matrices",
}
_SETS = {
    "1": "CIFAR-10",
    "2": "CIFAR-100",
    "3": "CIFAR-10",
    "4": "CIFAR-100",
    "5": "ImageNet to CUB",
}
_CURVES = ("teacher", "teacher_fast", "fitnet", "student")


def fsp(path: AnyPath) -> None:
    """Draws figures/figure3 and tables."""
    run, config, arrays, words = read(path, "{teacher} on {dataset}")
    folder = run.path
    results = run.read_json("results.json")
    with style.context():
        if results["fast"]:
            _figure3(folder, arrays, words)
        _tables(folder, config, results, words)


def _figure3(folder, arrays, words):
    """Training loss and test accuracy over the steps of the last stage."""
    figure, axes = style.panels(1, 2, width=9.5, height=3.8)
    for color, arm in zip(style.COLORS, _CURVES, strict=False):
        steps = arrays[f"{arm}/step"]
        options = {"color": color, "label": _WORDS[arm]}
        if arm != "fitnet":  # whose loss has soft targets in it
            loss = arrays[f"{arm}/loss"].mean(1)
            style.band(axes[0, 0], steps, loss, **options)
        accuracy = 100 * arrays[f"{arm}/test_accuracy"].mean(1)
        style.band(axes[0, 1], steps, accuracy, **options)
    style.log_scale(axes[0, 0])
    axes[0, 0].set(ylabel="training loss (nats, log scale)")
    axes[0, 1].set(ylabel="test accuracy (%)")
    for ax, title in zip(axes[0], ("(a) Training loss", "(b) Test"), strict=True):
        ax.set_xlabel("steps of the last stage")
        ax.set_title(title, loc="left")
    axes[0, 1].legend()
    figure.suptitle(f"Figure 3 - {words}", fontsize=9)
    style.save(figure, folder, "figure3")


def _tables(folder, config, results, words):
    """Each net, their mean and their ensemble; on the right the paper's."""
    tables = zip(("fast", "small", "transfer"), config["paper_tables"], strict=True)
    kinds = [(kind, name) for kind, name in tables if results[kind]]
    figure, axes = style.panels(len(kinds), 2, width=9.5, height=2.9)
    for row, (kind, name) in zip(axes, kinds, strict=True):
        _rows(row[0], results[kind])
        digit = name.removeprefix("table")
        row[0].set_title(f"Ours, as table {digit}, on {config['dataset']}", loc="left")
        _papers_rows(row[1], results["paper"][name])
        row[1].set_title(f"The paper's {_title(name)}", loc="left")
    figure.suptitle(f"Tables - {words}", fontsize=9)
    style.save(figure, folder, "tables")


def _title(name):
    digit = name.removeprefix("table")
    return f"table {digit} ({_SETS[digit]})"


def _rows(ax, rows):
    places = np.arange(len(rows))[::-1]
    for place, row in zip(places, rows.values(), strict=True):
        nets = 100 * np.ravel(row["nets"])
        ax.plot(nets, np.full(len(nets), place), "o", mfc="none", color="0.5", ms=4)
        mean = 100 * np.array(row["average"]["mean"], float)
        ax.plot(mean, place, "D", color=style.COLORS[0], ms=5)
        if "ensemble" in row:
            together = 100 * np.array(row["ensemble"]["mean"], float)
            ax.plot(together, place, "*", color=style.COLORS[1], ms=9)
    _labels(ax, places, rows)
    ax.plot([], [], "o", mfc="none", color="0.5", ms=4, label="a net")
    _legend(ax)


def _papers_rows(ax, rows):
    places = np.arange(len(rows))[::-1]
    for place, row in zip(places, rows.values(), strict=True):
        nets = [100 * row[name] for name in ("net1", "net2", "net3") if name in row]
        ax.plot(nets, np.full(len(nets), place), "o", mfc="none", color="0.5", ms=4)
        ax.plot(100 * row["average"], place, "D", color=style.COLORS[0], ms=5)
        if "ensemble" in row:
            ax.plot(100 * row["ensemble"], place, "*", color=style.COLORS[1], ms=9)
    _labels(ax, places, rows)


def _labels(ax, places, rows):
    ax.set_yticks(places, [_WORDS[name] for name in rows], fontsize=7)
    ax.set(xlabel="test accuracy (%)", ylim=(-0.6, len(rows) - 0.4))


def _legend(ax):
    ax.plot([], [], "D", color=style.COLORS[0], ms=5, label="mean")
    ax.plot([], [], "*", color=style.COLORS[1], ms=9, label="ensemble (mean)")
    ax.legend(fontsize=6, loc="best")
