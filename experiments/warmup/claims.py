"""The claims about warmup, each a number that a run can contradict."""

import numpy as np

from experiments.common import paper
from experiments.warmup.config import Config
from kd_heuristics.runs import Claim

ACCURACY = "points of test accuracy"

MAY_FAIL = ("large", "freeze_random")  # that they fail is what is claimed
# What each claim compares: a number, an arm and another; those of the question first.
MAIN = {
    ("early accuracy", "warmup", "large"): (
        "at the end of warmup, accuracy is higher with it than without"
    ),
    ("early accuracy", "freeze_fc", "warmup"): (
        "freezing the FC layers does as well as warmup"
    ),
    ("FC similarity", "warmup", "large"): "warmup keeps the FC layers more alike",
}
OTHERS = {
    ("final accuracy", "small", "warmup"): (
        "small batches end better than large ones with warmup"
    ),
    ("final accuracy", "warmup", "large"): (
        "with warmup, large batches end better than without"
    ),
    ("convolution similarity", "warmup", "large"): (
        "warmup keeps the convolutions more alike"
    ),
    ("early accuracy", "freeze_fc", "freeze_random"): (
        "freezing as many other parameters does not do as well"
    ),
}


def claims(config: Config) -> tuple[Claim, ...]:
    """The claims of the paper for the arms that run, with its digitised numbers."""
    values = papers_values(config.model)
    return tuple(
        _claim(config, words, names, values.get(names), names in MAIN)
        for names, words in (MAIN | OTHERS).items()
        if {*names[1:]} <= {*config.arms}
    )


def papers_values(model: str) -> dict[tuple[str, str, str], float]:
    """The paper's differences: Figure 4 for its VGG-11, Figure 15 for a ResNet."""
    small, large, warm = "SB no warmup", "LB no warmup", "LB+warmup"
    if model.startswith("resnet"):
        found = paper.table("warmup/fig15_resnet")
        early = {
            str(setup): value
            for net, setup, value in zip(
                found["net"], found["setup"], found["19"], strict=True
            )
            if net.lower().replace("-", "") == model
        }
        if not early:
            return {}
        return {
            ("early accuracy", "warmup", "large"): early[warm] - early[large],
            ("early accuracy", "freeze_fc", "warmup"): (
                early["LB+FC freeze"] - early[warm]
            ),
        }
    accuracy = paper.table("warmup/fig4a_val_acc")
    frozen = paper.table("warmup/fig4d_val_acc")
    cca = paper.table("warmup/fig4c_cca")
    early, last = 19, 299  # after 20 and 300 epochs
    kept = cca[warm] - cca[large]
    return {
        ("early accuracy", "warmup", "large"): (
            accuracy[warm][early] - accuracy[large][early]
        ),
        ("early accuracy", "freeze_fc", "warmup"): (
            frozen["LB+FC freeze"][early] - frozen[warm][early]
        ),
        ("FC similarity", "warmup", "large"): (
            kept[np.char.find(cca["layer"], "FC") >= 0].mean()
        ),
        ("convolution similarity", "warmup", "large"): (
            kept[cca["layer"] == "Conv"].mean()
        ),
        ("final accuracy", "small", "warmup"): accuracy[small][last]
        - accuracy[warm][last],
        ("final accuracy", "warmup", "large"): accuracy[warm][last]
        - accuracy[large][last],
    }


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
        trainings=tuple(arm for arm in names[1:] if arm not in MAY_FAIL),
    )


def difference(what: str, arm: str, other: str) -> str:
    """The name of the statistic that compares two arms.

    >>> difference("final accuracy", "warmup", "large")
    'final accuracy, warmup minus large'
    """
    return f"{what}, {arm} minus {other}"
