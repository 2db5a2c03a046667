"""The claims about warmup, each a number that a run can contradict."""

from typing import Any

import numpy as np

from experiments.common import paper
from experiments.warmup.config import Config
from kd_heuristics.runs import Claim

ACCURACY = "points of test accuracy"


def claims(config: Config) -> tuple[Claim, ...]:
    """The claims of the paper for the arms that run, with its digitised numbers."""
    accuracy = paper.table("warmup/fig4a_val_acc")
    frozen = paper.table("warmup/fig4d_val_acc")
    cca = paper.table("warmup/fig4c_cca")
    early, last = 19, 299  # after 20 and 300 epochs
    small, large, warm = "SB no warmup", "LB no warmup", "LB+warmup"
    fc = np.char.find(cca["layer"], "FC") >= 0
    conv = cca["layer"] == "Conv"
    kept = cca[warm] - cca[large]
    main = {
        ("early accuracy", "warmup", "large"),
        ("early accuracy", "freeze_fc", "warmup"),
        ("FC similarity", "warmup", "large"),
    }
    rows: tuple[tuple[str, tuple[str, str, str], Any], ...] = (
        (
            "small batches end better than large ones with warmup",
            ("final accuracy", "small", "warmup"),
            accuracy[small][last] - accuracy[warm][last],
        ),
        (
            "with warmup, large batches end better than without",
            ("final accuracy", "warmup", "large"),
            accuracy[warm][last] - accuracy[large][last],
        ),
        (
            "at the end of warmup, accuracy is higher with it than without",
            ("early accuracy", "warmup", "large"),
            accuracy[warm][early] - accuracy[large][early],
        ),
        (
            "warmup keeps the FC layers more alike",
            ("FC similarity", "warmup", "large"),
            kept[fc].mean(),
        ),
        (
            "warmup keeps the convolutions more alike",
            ("convolution similarity", "warmup", "large"),
            kept[conv].mean(),
        ),
        (
            "freezing the FC layers does as well as warmup",
            ("early accuracy", "freeze_fc", "warmup"),
            frozen["LB+FC freeze"][early] - frozen[warm][early],
        ),
        (
            "freezing as many other parameters does not do as well",
            ("early accuracy", "freeze_fc", "freeze_random"),
            None,
        ),
    )
    return tuple(
        _claim(config, words, names, value, names in main)
        for words, names, value in rows
        if {*names[1:]} <= {*config.arms}
    )


def _claim(config, words, names, value, main) -> Claim:
    """A claim on two arms; "as well" is not worse by the smallest effect."""
    equal = words.endswith("as well as warmup")
    alike = names[0].endswith("similarity")
    own = config.smallest_effect * (1 if alike else 100)
    paper_value = None if value is None else round(float(value), 4)
    return Claim(
        key="/".join(names).lower().replace(" ", "-"),
        words=words,
        kind="as_good" if equal else "difference",
        smallest_effect=own if equal else paper.smallest_effect(own, paper_value),
        unit=f"similarity ({config.measure})" if alike else ACCURACY,
        statistic=difference(*names),
        paper=paper_value,
        main=main,
    )


def difference(what: str, arm: str, other: str) -> str:
    """The name of the statistic that compares two arms.

    >>> difference("final accuracy", "warmup", "large")
    'final accuracy, warmup minus large'
    """
    return f"{what}, {arm} minus {other}"
