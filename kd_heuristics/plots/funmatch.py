"""Figures 1 to 4 of Beyer et al. 2022 and the arms beside them."""

from typing import Any

import numpy as np

from kd_heuristics import paper
from kd_heuristics.files import AnyPath
from kd_heuristics.plots import style
from kd_heuristics.plots.folder import read

_WORDS = {
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
_LINES = ("fix/cc", "ind/ic", "same/ic", "mix", "labels", "labels+mixup")
_COLORS = dict(zip(_LINES, style.COLORS, strict=True))


def funmatch(path: AnyPath) -> None:
    """Draws figures/patience, variants and curves."""
    run, config, arrays, words = read(path, "{teacher} teaches {model} on {dataset}")
    folder = run.path
    results = run.read_json("results.json")
    with style.context():
        _patience(folder, config, results, words)
        _variants(folder, results, words)
        _curves(folder, config, arrays, words)


def _patience(folder, config, results, words):
    """Figures 1, 2 and 4: accuracy and distance from the teacher against epochs."""
    figure, axes = style.panels(1, 3, width=12.0, height=4.4)
    panels = (
        (axes[0, 0], "test_accuracy", "(a) Test accuracy", "test accuracy (%)", 100),
        (axes[0, 1], "test_kl", "(b) Distance from the teacher", "KL (nats), test", 1),
    )
    for ax, key, title, label, scale in panels:
        for arm in config["main"]:
            lengths = results["arms"][arm]
            epochs = [int(length) for length in lengths]
            # Null, of a student that diverged, is NaN.
            values = np.array([run[key]["values"] for run in lengths.values()], float)
            style.band(
                ax,
                epochs,
                scale * values.T,
                color=_COLORS.get(arm),
                label=_WORDS[arm],
                marker="o",
            )
        _others(ax, config, results, key, scale)
        ax.set_xscale("log")
        ticks = [setting["epochs"] for setting in config["settings"]]
        ax.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        ax.minorticks_off()
        ax.set(xlabel="epochs (log scale)", ylabel=label)
        ax.set_title(title, loc="left")
    level = 100 * results["teacher_accuracy"]["test"]
    axes[0, 0].axhline(level, color="0.3", ls=":", label="the teacher")
    handles = axes[0, 0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=4, fontsize=7)
    _papers(axes[0, 2])
    figure.suptitle(f"Patience - {words}", fontsize=9)
    style.save(figure, folder, "patience")


def _others(ax, config, results, key, scale):
    """The students of labels, where they were trained at one length."""
    for arm in ("labels", "labels+mixup"):
        if arm in config["main"] or arm not in results["arms"]:
            continue
        for epochs, run in results["arms"][arm].items():
            if key == "test_kl":
                continue
            ax.plot(
                int(epochs),
                scale * np.array(run[key]["mean"], float),
                "x",
                color=_COLORS[arm],
                label=_WORDS[arm],
            )


def _papers(ax):
    """Table 3, ImageNet."""
    columns = paper.table("funmatch/table3")
    epochs = [int(key) for key in columns if key != "run"]
    for index, run in enumerate(columns["run"]):
        if run in _COLORS:
            values = np.array([columns[str(key)][index] for key in epochs])
            known = np.isfinite(values)
            ax.plot(
                np.array(epochs)[known],
                values[known],
                color=_COLORS[str(run)],
                marker="o",
                label=_WORDS[str(run)],
            )
    ax.set_xscale("log")
    ax.set_xticks(epochs, [f"{tick:,}" for tick in epochs], rotation=45, fontsize=7)
    ax.minorticks_off()
    ax.set(xlabel="epochs (log scale)", ylabel="accuracy (%)")
    ax.legend(fontsize=6, loc="lower left", borderpad=0)
    ax.set_title("(c) The paper, ImageNet", loc="left")


def _variants(folder, results, words):
    """Figure 3 and the other arms, each at the length that all arms have."""
    runs = _at_one_length(results)
    places = np.arange(len(runs))[::-1]
    panels: tuple[tuple[str, str, float], ...] = (
        ("test_accuracy", "test accuracy (%)", 100),
        ("test_agreement", "agreement with the teacher, test (%)", 100),
        ("test_kl", "KL from the teacher, test (nats)", 1),
    )
    height = 1.2 + 0.24 * len(runs)
    figure, axes = style.panels(1, len(panels), width=12.0, height=height)
    for ax, (key, label, scale) in zip(axes[0], panels, strict=True):
        for place, (arm, run) in zip(places, runs.items(), strict=True):
            values = scale * np.array(run[key]["values"], float)
            color = style.COLORS[1] if arm == "mix" else style.COLORS[0]
            ax.plot(values, np.full(len(values), place), "o", mfc="none", color="0.5")
            ax.plot(values.mean(), place, "D", color=color, ms=5)
        ax.set(xlabel=label, ylim=(-0.6, len(runs) - 0.4))
        ax.set_yticks(places, [""] * len(runs))
    axes[0, 0].set_yticks(places, [_WORDS[arm] for arm in runs], fontsize=8)
    axes[0, 0].axvline(
        100 * results["teacher_accuracy"]["test"], color="0.3", ls=":", lw=1
    )
    # Arms that learn labels are far from the teacher, and would hide the others.
    means = [run["test_kl"]["mean"] for arm, run in runs.items() if "labels" not in arm]
    finite = [mean for mean in means if mean is not None]
    if finite:
        axes[0, 2].set_xlim(left=0, right=1.15 * max(finite))
    epochs = {run["setting"]["epochs"] for run in runs.values()}
    length = f"{epochs.pop():,} epochs" if len(epochs) == 1 else "several lengths"
    figure.suptitle(f"Arms after {length} (dotted: the teacher) - {words}", fontsize=9)
    style.save(figure, folder, "variants")


def _at_one_length(results) -> dict[str, Any]:
    """Each arm at the length of the arms that have one only, else at their longest."""
    lengths = [set(runs) for runs in results["arms"].values()]
    common = sorted(set.intersection(*lengths), key=int)
    return {
        arm: runs[common[-1]] if common else runs[max(runs, key=int)]
        for arm, runs in results["arms"].items()
    }


def _curves(folder, config, arrays, words):
    """Distance from the teacher over the longest training: who overfits."""
    epochs = config["settings"][-1]["epochs"]
    figure, axes = style.panels(1, 3, width=12.0, height=3.4)
    for arm in config["main"]:
        stage = f"{arm.replace('/', '-')}@{epochs}"
        if f"{stage}/kl" not in arrays:
            continue
        options: dict[str, Any] = {"color": _COLORS.get(arm), "label": _WORDS[arm]}
        steps = arrays[f"{stage}/step"]
        for ax, key, scale in zip(
            axes[0],
            ("kl", "validation_kl", "validation_accuracy"),
            (1, 1, 100),
            strict=True,
        ):
            style.band(ax, steps, scale * arrays[f"{stage}/{key}"], **options)
    labels = (
        "KL (nats), training",
        "KL (nats), validation",
        "validation accuracy (%)",
    )
    titles = ("(a) On the training views", "(b) On validation images", "(c) Accuracy")
    for ax, label, title in zip(axes[0], labels, titles, strict=True):
        ax.set(xlabel="steps", ylabel=label)
        ax.set_title(title, loc="left")
        if "KL" in label:
            style.log_scale(ax)
    axes[0, 0].legend(fontsize=7)
    figure.suptitle(f"The longest training, {epochs:,} epochs - {words}", fontsize=9)
    style.save(figure, folder, "curves")
