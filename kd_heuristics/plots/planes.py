"""Figures 3, 11, 12 and 13 of Gotmare et al. 2019: planes and paths of SGDR."""

import numpy as np
from matplotlib.colors import LogNorm

from kd_heuristics.plots import style

_METRICS = (
    ("train_accuracy", "train accuracy (%)"),
    ("test_accuracy", "test accuracy (%)"),
    ("test_loss", "test loss (nats)"),
)


def figure11(folder, config, arrays, words):
    """What Figure 2 leaves out along the segments and the chains."""
    figure, axes = style.panels(2, 3, width=11.0, height=2.8)
    for row, (arm, title) in enumerate((("sgdr", "SGDR"), ("step", "step decay"))):
        for ax, (metric, label) in zip(axes[row], _METRICS, strict=True):
            for color, (a, b) in zip(
                style.COLORS, config[f"{arm}_pairs"], strict=False
            ):
                scale = 100 if metric.endswith("accuracy") else 1
                key = f"{arm}/{a}-{b}"
                segment = scale * arrays[f"{key}/segment/{metric}"]
                chain = scale * arrays[f"{key}/chain/{metric}"]
                style.band(ax, arrays["t"], segment, color=color, ls="--")
                style.band(ax, arrays["t"], chain, color=color, label=f"w{a} to w{b}")
            ax.set(xlabel="t along the path", ylabel=label)
            if metric.endswith("loss"):
                style.log_scale(ax)
        axes[row, 0].plot([], [], color="k", ls="--", label="segment")
        axes[row, 0].plot([], [], color="k", label="fitted chain")
        axes[row, 0].legend(fontsize=7)
        axes[row, 0].set_title(title, loc="left")
    figure.suptitle(f"Figure 11 - {words}", fontsize=9)
    style.save(figure, folder, "figure11")


def plane(folder, pair, title, config, arrays, words):
    """Log train and test loss on the plane of a pair, the iterates between on it."""
    key = f"plane-{pair[0]}-{pair[1]}"
    found = {
        name.removeprefix(f"{key}/"): values
        for name, values in arrays.items()
        if name.startswith(f"{key}/")
    }
    figure, axes = style.panels(1, 2, width=10.0, height=4.2)
    for ax, part in zip(axes.flat, ("train", "test"), strict=True):
        surface(figure, ax, found, part)
        _networks(ax, pair, found)
        ax.set_title(f"{part} loss", loc="left")
        ax.set(xlabel="Euclidean distance in weights")
    run = words.rpartition(", ")[0]  # a plane is of one seed, not of all
    figure.suptitle(f"{title}, seed {config['first_seed']} - {run}", fontsize=9)
    style.save(figure, folder, title.lower().replace(" ", "").replace("and", "_"))


def surface(figure, ax, found, part):
    """Filled contours of `found["train_loss"]` or "test_loss" over "xs" and "ys"."""
    losses = np.ma.masked_invalid(found[f"{part}_loss"])
    if not losses.count():
        ax.text(0.5, 0.5, "no finite loss", transform=ax.transAxes, ha="center")
        return
    low, high = float(losses.min()), float(losses.max())
    low = max(low, 1e-6 * high)  # a loss of 0 has no logarithm
    levels = np.geomspace(low, max(high, 1.001 * low), 21)
    filled = ax.contourf(
        found["xs"],
        found["ys"],
        np.ma.clip(losses, low, None),
        levels=levels,
        norm=LogNorm(levels[0], levels[-1]),
        cmap="viridis",
    )
    bar = {"label": "nats, log scale", "shrink": 0.8, "format": "{x:.2g}"}
    figure.colorbar(filled, ax=ax, ticks=levels[::5], **bar)
    ax.grid(visible=False)
    ax.set_aspect("equal", adjustable="box")


def _networks(ax, pair, found):
    first, second, bend = found["anchors"]
    ax.plot(*np.stack([first, bend, second]).T, color="w", lw=1.0)
    ax.plot(*np.stack([first, second]).T, color="w", lw=0.8, ls="--")
    run = np.concatenate([[first], found["affine"], [second]])
    ax.plot(*run.T, ".-", color="#D55E00", lw=0.8, ms=4)
    labels = [(f"w{pair[0]}", first), (f"w{pair[1]}", second), ("bend", bend)]
    ax.plot(*found["anchors"].T, "o", color="w", ms=5)
    for text, place in labels:
        _name(ax, text, place, "w", 9)
    # Names that would cover one another are left out.
    taken, apart = list(found["anchors"]), 0.06 * np.ptp(found["xs"])
    for epoch, place in zip(found["epochs"], found["affine"], strict=True):
        if min(np.hypot(*(place - other)) for other in taken) > apart:
            _name(ax, f"{epoch}", place, "#FFD0A0", 7)
            taken.append(place)


def _name(ax, text, place, color, size):
    ax.annotate(
        text,
        place,
        textcoords="offset points",
        xytext=(5, -10),  # the bend lies near the upper edge
        color=color,
        fontsize=size,
    )
