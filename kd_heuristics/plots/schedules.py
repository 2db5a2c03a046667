"""Gallery of schedules: a picture of each with the call that makes it."""

from pathlib import Path

import numpy as np

from kd_heuristics import schedules
from kd_heuristics.plots import style
from kd_heuristics.runtime import files

_STEPS = 150

# Each title is evaluated to draw its panel, so the two cannot differ.
GALLERY = (
    "sgdr(0.1, period=10)",
    "sgdr(0.1, period=10, inclusive=True)",
    "sgdr(0.1, period=20, mult=1, peak_decay=0.7)",
    "sgdr(0.1, period=25, warmup_steps=8, warmup_every_cycle=True)",
    "cosine_decay(0.1, steps=150)",
    "linear_decay(0.1, steps=150)",
    "step_decay(0.1, boundaries=[60, 120], factor=0.2)",
    "cyclic(0.1, period=30, low_value=0.01)",
    "warmup(step_decay(0.1, [60, 120], 0.2), steps=20)",
    "warmup(step_decay(0.1, [60, 120], 0.2), steps=20, shift=True)",
    "per_epoch(cosine_decay(0.1, steps=15), steps_per_epoch=10)",
    "wsd(0.1, steps=150, warmup_steps=15, cooldown_steps=60)",
    "wsd(0.1, 150, cooldown_steps=60, shape='cosine')",
    "step_decay(linear_scaling(0.05, 100, batch=200), [75], 0.1)",
)


def schedule_gallery(path: str | Path) -> None:
    """Draws `GALLERY` to a PNG file, value against step; all values are in [0, 0.1]."""
    steps = np.arange(_STEPS)
    names = {name: getattr(schedules, name) for name in schedules.__all__}
    with style.context():
        figure, axes = style.panels(len(GALLERY) // 2, 2, height=1.5)
        for ax, call in zip(axes.flat, GALLERY, strict=True):
            schedule = eval(call, names)
            ax.plot(steps, schedule(steps), color=style.COLORS[0], lw=1.2)
            ax.set_title(call, loc="left", fontsize=7, family="monospace")
            ax.set(ylim=(-0.005, 0.108))
        for ax in axes[-1]:
            ax.set_xlabel("step")
        with files.whole(path) as partial:
            figure.savefig(partial, metadata={"Software": None})
