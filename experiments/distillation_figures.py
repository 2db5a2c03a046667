"""The figures of the distillation study: 6 of the paper, layers and temperatures."""

from collections.abc import Mapping

import numpy as np

from experiments import charts
from kd_heuristics import paper
from kd_heuristics.plots import style
from kd_heuristics.plots.figure import Axis, Chart, Figure, HeatMap, Series

Arrays = Mapping[str, np.ndarray]

WORDS = {
    "independent": "labels",
    "hint": "hints, then labels",
    "fsp": "flow matrices, then labels",
    "null": "null: labels, another start",
    "unpaired": "soft targets, another start",
    "second teacher": "null: towards another teacher",
    "teacher": "the teacher",
}
NULLS = {"null": "#999999", "unpaired": "#8C510A", "second teacher": style.DARK}


def figures(config: dict, results: dict, arrays: Arrays) -> dict[str, Figure]:
    """All figures of a run."""
    del results
    return {
        "figure6": figure6(config, arrays),
        "layers": layers(config, arrays),
        "temperatures": temperatures(config, arrays),
    }


def _taught(config: dict) -> str:
    """The arm of soft targets that is set beside the paper's."""
    return f"soft-{config['temperature']:g}"


def _changes(config: dict, arrays: Arrays) -> dict[str, np.ndarray]:
    """The signed differences of an arm and of the nulls, [seeds, rows, columns]."""
    taught, alone = arrays[f"map/{_taught(config)}"], arrays["map/independent"]
    second = arrays["map/second/distilled"] - arrays["map/second/independent"]
    other = arrays["map/other_independent"]
    return {
        _taught(config): taught - alone,
        "null": other - alone,
        "unpaired": other - taught,
        "second teacher": second,
    }


def _name(arm: str) -> str:
    known = WORDS.get(arm)
    return known if known else f"soft targets, T = {arm.removeprefix('soft-')}"


def figure6(config: dict, arrays: Arrays) -> Figure:
    """Student's layers against the teacher's, differences, nulls; the paper's maps."""
    arm, measure = _taught(config), config["measure"]
    found = {kind: values.mean(0) for kind, values in _changes(config, arrays).items()}
    sizes = {kind: np.abs(v).mean(0) for kind, v in _changes(config, arrays).items()}
    limit = max(
        float(np.abs(values).max())
        for values in (
            *(sizes[kind] for kind in (arm, "null")),
            *(found[kind] for kind in (arm, "second teacher")),
        )
    )
    rows, columns = (arrays[name] for name in ("teacher_layers", "layers"))
    signed = {"scale": "signed", "limit": limit, "label": f"difference of {measure}"}
    size = {"scale": "size", "limit": limit, "label": "size of it (c, e)"}
    similar = {"label": measure}

    def ours(title, values, how):
        return _map(title, values, rows, columns, **how)

    return Figure(
        title="Figure 6, mean over seeds",
        caption="Figure 6: student's layers against the teacher's",
        claims=("fc-change",),
        panels=(
            ours(f"(a) {_name(arm)}", arrays[f"map/{arm}"].mean(0), similar),
            ours("(b) labels", arrays["map/independent"].mean(0), similar),
            ours("(c) |a - b|", sizes[arm], size),
            ours("(d) a - b", found[arm], signed),
            ours("(e) |b - another start's b|", sizes["null"], size),
            ours("(f) a - b, another teacher", found["second teacher"], signed),
            *_papers_maps(),
        ),
        columns=6,
        width=12.0,
        height=6.0,
    )


def _map(title, values, rows, columns, **how) -> HeatMap:
    return HeatMap(
        title=title,
        values=values,
        rows=tuple(map(str, rows)),
        columns=tuple(map(str, columns)),
        y="teacher's layer",
        x="student's layer",
        square=False,
        **how,
    )


def _papers_maps() -> list[HeatMap]:
    a, b = (
        paper.similarity_map(f"closer_look/{name}")
        for name in ("fig6a_distilled_T", "fig6b_indep_T")
    )
    found = (
        ("(a) The paper's, soft targets", a.values, "similarity"),
        ("(b) The paper's, labels", b.values, "similarity"),
        ("(d) The paper's, a - b", a.values - b.values, "signed"),
    )
    return [
        _map(title, values, a.rows, a.columns, scale=scale, still=False)
        for title, values, scale in found
    ]


def layers(config: dict, arrays: Arrays) -> Figure:
    """Each student layer's change, for each kind of knowledge and for the nulls."""
    alone = arrays["map/independent"]
    taught = (_taught(config), *config["kinds"])
    kinds = _changes(config, arrays) | {
        kind: arrays[f"map/{kind}"] - alone for kind in config["kinds"]
    }
    colors = dict(zip(taught, style.COLORS, strict=False)) | NULLS
    absolute, signed = [], []
    for kind, values in kinds.items():
        own = {"name": _name(kind), "color": colors[kind]}
        own["line"] = "solid" if kind in taught else "dash"
        absolute.append(charts.along_layers(np.abs(values).mean(1), **own))
        if kind not in ("null", "unpaired"):  # whose signs are the order of a pair
            signed.append(charts.along_layers(values.mean(1), **own))
    if _has_papers_layers(config):
        a, b = (panel.values for panel in _papers_maps()[:2])
        own = {"name": "paper", "color": style.GREY, "paper": True}
        absolute.append(charts.along_layers(np.abs(a - b).mean(0), **own))
        signed.append(charts.along_layers((a - b).mean(0), **own))
    x = charts.layers_axis("student's layer", arrays["layers"])
    y = Axis(label=f"{config['measure']}, mean over teacher")
    panels = [
        Chart(title=title, x=x, y=y, series=tuple(series), legend=False)
        for title, series in (
            ("(a) Absolute change against labels", absolute),
            ("(b) Signed change: above 0, more like the teacher", signed),
        )
    ]
    return Figure(
        title="Where knowledge lands",
        caption="Where knowledge lands, and the nulls",
        claims=("fc-layers",),
        panels=tuple(panels),
        width=9.5,
        height=3.8,
        legend_below=True,
    )


def _has_papers_layers(config: dict) -> bool:
    nets = config["dataset"], config["teacher"], config["model"]
    return nets == ("cifar10", "vgg16", "shallow")


def temperatures(config: dict, arrays: Arrays) -> Figure:
    """Final accuracy, and change against labels by layer, at each temperature."""
    found = config["temperatures"]
    ends = min(found), max(found)
    soft = [100 * arrays[f"soft-{t:g}/test_accuracy"][:, -1] for t in found]
    own = {"color": style.COLORS[0], "marker": "o"}
    accuracy = [Series(x=found, y=np.stack(soft, 1), name="soft targets", **own)]
    others = ("independent", *config["kinds"], "teacher")
    for color, arm in zip(style.COLORS[1:], others, strict=False):
        final = 100 * arrays[f"{arm}/test_accuracy"][:, -1]
        level = np.repeat(final[:, None], 2, 1)
        how = {"name": _name(arm), "color": color, "line": "dash"}
        accuracy.append(Series(x=ends, y=level, **how))
    changes = [
        charts.along_layers(
            np.abs(arrays[f"map/soft-{t:g}"] - arrays["map/independent"]).mean(1),
            f"T = {t:g}",
            color,
        )
        for color, t in zip(style.COLORS, found, strict=False)
    ]
    return Figure(
        title="Temperatures",
        caption="Temperatures",
        claims=("accuracy",),
        panels=(
            Chart(
                title="(a) Final test accuracy",
                x=Axis(label="temperature", scale="log", ticks=tuple(found)),
                y=Axis(label="test accuracy", unit="%"),
                series=tuple(accuracy),
            ),
            Chart(
                title="(b) Change against labels, by layer",
                x=charts.layers_axis("student's layer", arrays["layers"]),
                y=Axis(label=f"|change| of {config['measure']}"),
                series=tuple(changes),
            ),
        ),
        width=9.5,
        height=3.6,
    )
