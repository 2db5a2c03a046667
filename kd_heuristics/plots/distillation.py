"""Figure 6 of Gotmare et al. 2019, its nulls, temperatures, kinds of knowledge."""

import numpy as np

from kd_heuristics import paper
from kd_heuristics.files import AnyPath
from kd_heuristics.plots import style
from kd_heuristics.plots.folder import read
from kd_heuristics.plots.maps import absolute_map, difference_map, heat_map, short

_WORDS = {
    "independent": "labels",
    "hint": "hints, then labels",
    "fsp": "flow matrices, then labels",
    "null": "null: labels, another start",
    "unpaired": "soft targets, another start",
    "second teacher": "null: towards another teacher",
}


def distillation(path: AnyPath) -> None:
    """Draws figures/figure6, layers and temperatures."""
    run, config, arrays, words = read(path, "{teacher} teaches {model} on {dataset}")
    folder = run.path
    arm = f"soft-{config['temperature']:g}"
    with style.context():
        _figure6(folder, config, arrays, arm, words)
        _layers(folder, config, arrays, arm, words)
        _temperatures(folder, config, arrays, words)


def _is_papers(config):
    return config["dataset"] == "cifar10" and (config["teacher"], config["model"]) == (
        "vgg16",
        "shallow",
    )


def _changes(arrays, arm):
    """The signed differences of an arm and of both nulls, [seeds, rows, columns]."""
    independent = arrays["map/independent"]
    return {
        arm: arrays[f"map/{arm}"] - independent,
        "null": arrays["map/other_independent"] - independent,
        "unpaired": arrays["map/other_independent"] - arrays[f"map/{arm}"],
        "second teacher": arrays["map/second/distilled"]
        - arrays["map/second/independent"],
    }


def _figure6(folder, config, arrays, arm, words):
    rows, columns = list(arrays["teacher_layers"]), list(arrays["layers"])
    found = _changes(arrays, arm)
    maps = (
        (f"(a) {_name(arm)}", arrays[f"map/{arm}"].mean(0)),
        ("(b) labels", arrays["map/independent"].mean(0)),
    )
    sizes = (
        ("(c) |a - b|", np.abs(found[arm]).mean(0)),
        ("(e) |b - another start's b|", np.abs(found["null"]).mean(0)),
    )
    signed = (
        ("(d) a - b", found[arm].mean(0)),
        ("(f) a - b, another teacher", found["second teacher"].mean(0)),
    )
    limit = max(float(np.abs(values).max()) for _, values in (*sizes, *signed))
    figure, axes = style.panels(1, 6, width=12.0, height=6.0)
    for ax, (title, values) in zip(axes[0, :2], maps, strict=True):
        similar = heat_map(ax, values, rows, columns)
        ax.set_title(title, loc="left", fontsize=8)
    for ax, (title, values) in zip(axes[0, 2::2], sizes, strict=True):
        size = absolute_map(ax, values, rows, columns, limit=limit)
        ax.set_title(title, loc="left", fontsize=8)
    for ax, (title, values) in zip(axes[0, 3::2], signed, strict=True):
        change = difference_map(ax, values, rows, columns, limit=limit)
        ax.set_title(title, loc="left", fontsize=8)
    for ax in axes[0]:
        ax.set(aspect="auto", xlabel="student's layer")
    axes[0, 0].set_ylabel("teacher's layer")
    figure.colorbar(similar, ax=list(axes[0, :2]), label=config["measure"], shrink=0.5)
    label = f"difference of {config['measure']}"
    figure.colorbar(change, ax=list(axes[0, 2:]), label=label, shrink=0.5)
    figure.colorbar(size, ax=list(axes[0, 2:]), label="size of it (c, e)", shrink=0.5)
    figure.suptitle(f"Figure 6, mean over seeds - {words}", fontsize=9)
    style.save(figure, folder, "figure6")


def _name(arm):
    temperature = arm.removeprefix("soft-")
    known = _WORDS.get(arm)
    return known if known else f"soft targets, T = {temperature}"


def _layers(folder, config, arrays, arm, words):
    """Each student layer's change, for each kind of knowledge and for the nulls."""
    independent = arrays["map/independent"]
    kinds = _changes(arrays, arm) | {
        kind: arrays[f"map/{kind}"] - independent for kind in config["kinds"]
    }
    columns = short(list(arrays["layers"]))
    places = np.arange(len(columns))
    figure, axes = style.panels(1, 2, width=9.5, height=3.8)
    colors = dict(zip((arm, *config["kinds"]), style.COLORS, strict=False))
    colors |= {"null": "#999999", "unpaired": "#8C510A", "second teacher": "#000000"}
    for kind, values in kinds.items():
        options = {"color": colors[kind], "label": _name(kind), "marker": "."}
        null = kind not in (arm, *config["kinds"])
        options["ls"] = "--" if null else "-"
        style.band(axes[0, 0], places, np.abs(values).mean(1), **options)
        if kind not in ("null", "unpaired"):  # whose signs are the order of a pair
            style.band(axes[0, 1], places, values.mean(1), **options)
    if _is_papers(config):
        change = _papers_change()
        absolute = np.abs(change).mean(0)
        axes[0, 0].plot(places, absolute, **style.PAPER, label="paper (grey)")
        axes[0, 1].plot(places, change.mean(0), **style.PAPER)
    titles = (
        "(a) Absolute change against labels",
        "(b) Signed change: above 0, more like the teacher",
    )
    for ax, title in zip(axes[0], titles, strict=True):
        ax.set_title(title, loc="left")
        ax.set_xticks(places, columns, rotation=90, fontsize=7)
        ax.set(
            xlabel="student's layer", ylabel=f"{config['measure']}, mean over teacher"
        )
    handles = axes[0, 0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=3, fontsize=7)
    figure.suptitle(f"Where knowledge lands - {words}", fontsize=9)
    style.save(figure, folder, "layers")


def _papers_change():
    a, b = (
        paper.similarity_map(f"closer_look/{name}").values
        for name in ("fig6a_distilled_T", "fig6b_indep_T")
    )
    return a - b


def _temperatures(folder, config, arrays, words):
    figure, axes = style.panels(1, 2, width=9.5, height=3.6)
    ax, final = axes[0, 0], {}
    temperatures = config["temperatures"]
    for arm in ("independent", *config["kinds"], "teacher"):
        final[arm] = 100 * arrays[f"{arm}/test_accuracy"][:, -1]
    found = [100 * arrays[f"soft-{t:g}/test_accuracy"][:, -1] for t in temperatures]
    style.band(
        ax,
        temperatures,
        np.stack(found, 1),
        color=style.COLORS[0],
        marker="o",
        label="soft targets",
    )
    for color, (arm, values) in zip(style.COLORS[1:], final.items(), strict=False):
        label = "the teacher" if arm == "teacher" else _name(arm)
        level = np.repeat(values[:, None], 2, 1)
        ends = (min(temperatures), max(temperatures))
        style.band(ax, ends, level, color=color, label=label, ls="--")
    ax.set(xscale="log", xlabel="temperature (log scale)", ylabel="test accuracy (%)")
    ax.set_xticks(temperatures, [f"{t:g}" for t in temperatures], minor=False)
    ax.minorticks_off()
    ax.legend(fontsize=7)
    ax.set_title("(a) Final test accuracy", loc="left")
    ax = axes[0, 1]
    columns = short(list(arrays["layers"]))
    for color, t in zip(style.COLORS, temperatures, strict=False):
        change = arrays[f"map/soft-{t:g}"] - arrays["map/independent"]
        style.band(
            ax,
            np.arange(len(columns)),
            np.abs(change).mean(1),
            color=color,
            label=f"T = {t:g}",
        )
    ax.set_xticks(np.arange(len(columns)), columns, rotation=90, fontsize=7)
    ax.set(xlabel="student's layer", ylabel=f"|change| of {config['measure']}")
    ax.legend(fontsize=7)
    ax.set_title("(b) Change against labels, by layer", loc="left")
    figure.suptitle(f"Temperatures - {words}", fontsize=9)
    style.save(figure, folder, "temperatures")
