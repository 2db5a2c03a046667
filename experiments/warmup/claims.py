"""The claims about warmup, each a number that a run can contradict."""

from collections.abc import Sequence

import numpy as np

from experiments.common import paper
from experiments.warmup.config import Config
from kd_heuristics.runs import Claim

ACCURACY = "points of test accuracy"

# Doublings of an eigenvalue that count: one batch of images gives it no better than to
# some tens of per cent, and a factor of 1.4 stands above that.
DOUBLINGS = 0.5
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
    compared = tuple(
        _claim(config, words, names, values.get(names), names in MAIN)
        for names, words in (MAIN | OTHERS).items()
        if {*names[1:]} <= {*config.arms}
    )
    return (*compared, *_layers(config), *_sharpness(config))


def _layers(config):
    """Claims that the FC layers change more than the convolutions (Figures 5b, 5d)."""
    for key, arm, words, file in (
        (
            "fc-change/large",
            "large",
            "without warmup the FC layers change more than the convolutions",
            "fig5b_LB_nowarm_0_200",
        ),
        (
            "fc-change-later/warmup",
            "warmup",
            "after the warmup, too, the FC layers change more than the convolutions",
            "fig5d_LB_warm_200_2990",
        ),
    ):
        if arm not in config.arms:
            continue
        theirs = paper.similarity_map(f"warmup/{file}")
        value = None
        if not config.model.startswith("resnet"):
            diagonal = np.diagonal(theirs.values)
            value = round(float(conv_minus_fc(diagonal, theirs.rows)), 4)
        yield Claim(
            key=key,
            words=words,
            kind="difference",
            smallest_effect=paper.smallest_effect(config.smallest_effect, value),
            unit=f"similarity ({config.measure})",
            statistic=f"{key}, convolutions minus FC",
            paper=value,
            trainings=() if arm in MAY_FAIL else (arm,),
        )


def _sharpness(config):
    """Secondary claims, of a rival: warmup acts on sharpness, whatever the layer."""
    if not config.sharpness_early:
        return
    product, gilmer = "the top eigenvalue times the rate", "(Gilmer et al. 2021)"
    for arm, what, words in (
        ("large", "above 2", f"without warmup {product} is above 2 early {gilmer}"),
        ("warmup", "below 2", f"with warmup {product} stays below 2 {gilmer}"),
        (
            "freeze_fc",
            "below 2",
            f"with FC layers frozen {product} stays below 2 for the others {gilmer}",
        ),
        (
            "warmup",
            "falls",
            "the top eigenvalue falls during the warmup (Kalra and Barkeshli 2024)",
        ),
        (
            "large",
            "fc minus all",
            "without warmup the FC layers' own top eigenvalue is at least half of that "
            "of all parameters",
        ),
    ):
        if arm not in config.arms:
            continue
        whole = what == "fc minus all"
        yield Claim(
            key=f"sharpness/{what}/{arm}".replace(" ", "-"),
            words=words,
            kind="as_good" if whole else "difference",
            smallest_effect=1.0 if whole else DOUBLINGS,
            unit="doublings",
            statistic=f"sharpness, {arm} {what}",
            trainings=() if arm in MAY_FAIL else (early_training(arm),),
        )


def conv_minus_fc(diagonal: np.ndarray, layers: Sequence[str]) -> np.ndarray:
    """Mean similarity of the convolutions minus that of the FC layers.

    Args:
      diagonal: [..., layers], similarity of each layer to itself.
      layers: names of the layers, "00_conv" or the paper's "00Conv".

    >>> float(conv_minus_fc(np.array([0.8, 0.1, 0.2]), ["00Conv", "01BN", "02FC"]))
    0.6000000000000001
    """
    conv, fc = (
        [i for i, name in enumerate(layers) if name.lower().endswith(kind)]
        for kind in ("conv", "fc")
    )
    return diagonal[..., conv].mean(-1) - diagonal[..., fc].mean(-1)


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
        trainings=tuple(
            arm if names[0].startswith("final") else early_training(arm)
            for arm in names[1:]
            if arm not in MAY_FAIL
        ),
    )


def early_training(arm: str) -> str:
    """The name of a training as it stands at the end of the warmup.

    A claim about that time needs a training that works then; whether it still works
    after the thaw of its frozen layers is another question.

    >>> early_training("freeze_fc")
    'freeze_fc, end of warmup'
    """
    return f"{arm}, end of warmup"


def difference(what: str, arm: str, other: str) -> str:
    """The name of the statistic that compares two arms.

    >>> difference("final accuracy", "warmup", "large")
    'final accuracy, warmup minus large'
    """
    return f"{what}, {arm} minus {other}"
