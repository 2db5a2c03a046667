"""The claims about warmup, each a number that a run can contradict."""

import numpy as np

from experiments.common import paper
from experiments.warmup.config import Config
from kd_heuristics.runs import Claim


def claims(config: Config) -> tuple[Claim, ...]:
    """The claims of the paper for the arms that run, with its digitised numbers."""
    accuracy = paper.table("warmup/fig4a_val_acc")
    frozen = paper.table("warmup/fig4d_val_acc")
    cca = paper.table("warmup/fig4c_cca")
    early, last = 19, 299  # after 20 and 300 epochs
    small, large, warm = "SB no warmup", "LB no warmup", "LB+warmup"
    fc = np.char.find(cca["layer"], "FC") >= 0
    rows = (
        (
            "small batches end better than large ones with warmup",
            ("final accuracy", "small", "warmup"),
            (accuracy[small][last] - accuracy[warm][last]) / 100,
        ),
        (
            "with warmup, large batches end better than without",
            ("final accuracy", "warmup", "large"),
            (accuracy[warm][last] - accuracy[large][last]) / 100,
        ),
        (
            "at the end of warmup, accuracy is higher with it than without",
            ("early accuracy", "warmup", "large"),
            (accuracy[warm][early] - accuracy[large][early]) / 100,
        ),
        (
            "warmup keeps the FC layers more alike",
            ("FC similarity", "warmup", "large"),
            float((cca[warm] - cca[large])[fc].mean()),
        ),
        (
            "freezing the FC layers does as well as warmup",
            ("early accuracy", "freeze_fc", "warmup"),
            (frozen["LB+FC freeze"][early] - frozen[warm][early]) / 100,
        ),
        (
            "freezing as many other parameters does not do as well",
            ("early accuracy", "freeze_fc", "freeze_random"),
            None,
        ),
    )
    return tuple(
        Claim(
            key="/".join(names).lower().replace(" ", "-"),
            statement=words,
            statistic=difference(*names),
            direction="above",
            # "As well" means worse by no more than the margin.
            smallest_effect=-config.margin if equal else config.smallest_effect,
            margin=0.0 if equal else config.margin,
            unit="similarity" if names[0] == "FC similarity" else "accuracy",
            paper=None if value is None else round(float(value), 4),
        )
        for words, names, value in rows
        for equal in [words.endswith("as well as warmup")]
        if {*names[1:]} <= {*config.arms}
    )


def difference(what: str, arm: str, other: str) -> str:
    """The name of the statistic that compares two arms.

    >>> difference("final accuracy", "warmup", "large")
    'final accuracy, warmup minus large'
    """
    return f"{what}, {arm} minus {other}"
