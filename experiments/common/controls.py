"""Claims that are controls of ours: the papers do not make them, and the page says so.

They stand here, not with the claims, because they decide no number of a run.
"""

# Keys, or families of keys, by study.
CONTROLS: dict[str, tuple[str, ...]] = {
    "sgdr": (
        "final-accuracy/cosine-sgdr",
        "between/test-loss",
        "similarity/restart-seeds",
    ),
    "mode_connectivity": ("worst-minus-end/bezier", "bend-loss/decay"),
    "warmup": ("early-accuracy/freeze_fc/freeze_random",),
    "distillation": ("fc-layers/another-start", "fc-layers/another-teacher"),
    "fsp": ("accuracy/small_fsp/small_kd",),
}


def of(study: str) -> tuple[str, ...]:
    """The controls of a study; () if it has none."""
    return CONTROLS.get(study, ())
