"""Claims that a study's paper does not make: our controls, and other papers' claims.

The page sets them apart. They stand here, not with the claims, because they decide no
number of a run.
"""

# Keys, or families of keys, by study.
CONTROLS: dict[str, tuple[str, ...]] = {
    "sgdr": (
        "final-accuracy",
        "between/test-loss",
        "similarity/restart-seeds",
        "averages",
        "instability",
    ),
    "mode_connectivity": ("worst-minus-end/bezier", "bend-loss/decay", "alignment"),
    "warmup": ("early-accuracy/freeze_fc/freeze_random", "sharpness"),
    "distillation": (
        "fc-layers/another-start",
        "fc-layers/another-teacher",
        "fidelity",
        "nulls",
        "losses",
    ),
    "fsp": ("accuracy/small_fsp/small_kd", "fidelity"),
    "funmatch": ("fidelity",),
}


def of(study: str) -> tuple[str, ...]:
    """The controls of a study; () if it has none."""
    return CONTROLS.get(study, ())
