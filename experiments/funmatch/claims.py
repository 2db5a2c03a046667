"""The paper's claims about patience and consistency, each a number to contradict.

The paper's values are those of its table 3 (ImageNet). Its 300 and 4,800 epochs stand
for our shortest and longest training, 1,200 for the one before the longest.
"""

import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np

from experiments.common import paper
from experiments.funmatch.arms import ARMS, table3
from experiments.funmatch.config import Config, name
from kd_heuristics.runs import Claim

DISTANCE = 0.02  # smallest difference of distances that counts, in nats
TEACHER = 1.0  # points below the teacher that still count as reaching it
Student = tuple[str, int]  # an arm and its epochs


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A claim on two students, or on one and its teacher.

    Attributes:
      key: of the claim.
      words: of the claim.
      first: the student that the paper says is better.
      second: the other one; None is the teacher.
      paper: the paper's difference, in the unit.
      kind: of the claim.
      main: whether it answers the study's question.
      distance: compares distances from the teacher in nats, else accuracies in points.
    """

    key: str
    words: str
    first: Student
    second: Student | None
    paper: float | None = None
    kind: str = "difference"
    main: bool = False
    distance: bool = False


def claims(config: Config) -> tuple[Claim, ...]:
    """The claims of the arms and lengths that run."""
    return tuple(
        Claim(
            key=its.key,
            words=its.words,
            kind=its.kind,
            smallest_effect=_effect(config, its),
            unit="nats" if its.distance else "points of test accuracy",
            paper=its.paper,
            main=its.main,
            trainings=_trainings(its),
        )
        for its in comparisons(config)
    )


def _trainings(its: Comparison) -> tuple[str, ...]:
    """The students that must not fail; a shorter training may."""
    longest = max(who[1] for who in (its.first, its.second) if who is not None)
    compared = filter(None, (its.first, its.second))
    return tuple(name(*who) for who in compared if who[1] == longest)


def _effect(config: Config, its: Comparison) -> float:
    """The smallest effect of a comparison that counts."""
    if its.distance:
        return DISTANCE
    if its.second is None:
        return TEACHER
    own = 100 * config.smallest_effect
    return paper.smallest_effect(own, its.paper) if its.kind == "difference" else own


def statistics(
    config: Config, arrays: Mapping[str, np.ndarray], teacher_accuracy: float
) -> dict[str, np.ndarray]:
    """The statistic of each claim, [seeds].

    Args:
      config: of the study.
      arrays: with the last test metrics of each stage, [seeds].
      teacher_accuracy: on the test set, in [0, 1].
    """
    found = {}
    for its in comparisons(config):
        metric = "test_kl" if its.distance else "test_accuracy"
        first, second = (
            np.full(1, teacher_accuracy)
            if who is None
            else arrays[f"{name(*who)}/{metric}"]
            for who in (its.first, its.second)
        )
        if its.second is not None:  # some arms have one seed alone
            count = min(len(first), len(second))
            first, second = first[:count], second[:count]
        found[its.key] = second - first if its.distance else 100 * (first - second)
    return found


def comparisons(config: Config) -> list[Comparison]:
    """The comparisons of the arms and lengths that run."""
    runs = {(arm, s.epochs) for arm in config.arms for s, _ in config.plan(arm)}
    rows = [*_consistent(config), *_patient(config), *_others(config)]
    return [
        its
        for its in rows
        if its.first in runs and (its.second is None or its.second in runs)
    ]


def _paper(
    arm: str, epochs: int, other: str, others: int | None = None
) -> float | None:
    """The difference of two rows of table 3 in points; None if it lacks one."""
    table = table3()
    a = table.get(arm, {}).get(epochs)
    b = table.get(other, {}).get(epochs if others is None else others)
    return None if a is None or b is None else round(a - b, 2)


def _consistent(config: Config) -> Iterator[Comparison]:
    """Who sees which pixels, at the longest and the shortest training."""
    short, long = config.settings[0].epochs, config.settings[-1].epochs
    rows = (
        ("a consistent teacher is better than a fixed one", "same/ic", "fix/cc"),
        ("a consistent teacher is better than independent views", "same/ic", "ind/ic"),
        ("independent views are better than a fixed teacher", "ind/ic", "fix/cc"),
    )
    for words, arm, other in rows:
        yield Comparison(
            f"distance/{arm}/{other}",
            f"{words}: the student comes closer to its teacher",
            (arm, long),
            (other, long),
            main=(arm, other) == ("same/ic", "fix/cc"),
            distance=True,
        )
    for words, arm, other in (*rows, ("mixup helps long runs", "mix", "same/ic")):
        yield Comparison(
            f"longest/{arm}/{other}",
            words,
            (arm, long),
            (other, long),
            _paper(arm, 4800, other),
        )
    if short < long:
        yield Comparison(
            "shortest/same/ic/mix",
            "short runs mislead: after the shortest, mixup is behind",
            ("same/ic", short),
            ("mix", short),
            _paper("same/ic", 30, "mix"),
        )


def _patient(config: Config) -> Iterator[Comparison]:
    """What longer trainings bring."""
    lengths = [setting.epochs for setting in config.settings]
    short, long = lengths[0], lengths[-1]
    if short == long:
        return
    for arm in ("mix", "same/ic"):
        yield Comparison(
            f"patience/{arm}",
            f"patience helps: {ARMS[arm].words}",
            (arm, long),
            (arm, short),
            _paper(arm, 4800, arm, 300),
            main=arm == "mix",
        )
    yield Comparison(
        "patience/teacher",
        "a patient student reaches its teacher",
        ("mix", long),
        None,
        round(table3()["mix"][9600] - 83.0, 2),
        kind="as_good",
    )
    before = lengths[-2]
    yield Comparison(
        "patience/fix/cc",
        "a fixed teacher overfits: its longest training ends below the one before",
        ("fix/cc", before),
        ("fix/cc", long),
        _paper("fix/cc", 1200, "fix/cc", 9600),
    )
    yield Comparison(
        "patience/mix/same/ic",
        "mixup in the training before the longest does as well as none in the longest",
        ("mix", before),
        ("same/ic", long),
        _paper("mix", 1200, "same/ic", 4800),
        kind="as_good",
    )


def _others(config: Config) -> Iterator[Comparison]:
    """One change each, at one length; the paper's 300 epochs, or 1,200."""
    epochs = config.other_epochs
    rows: tuple[tuple[str, str, str, float | None], ...] = (
        ("Shampoo is better than Adam", "shampoo", "mix", 0.33),
        (
            "a pretrained student is better in short runs",
            "pretrained",
            "mix",
            _paper("pretrained", 300, "mix"),
        ),
        (
            "a teacher is better than labels",
            "mix",
            "labels+mixup",
            _paper("mix", 300, "labels+mixup"),
        ),
        (
            "group norm is better than batch norm for MobileNet",
            "mobilenet_gn",
            "mobilenet_bn",
            _paper("mobilenet_gn", 300, "mobilenet_bn"),
        ),
        (
            "two teachers at two resolutions are better than one",
            "ensemble",
            "mix",
            0.3,  # 82.12 and 81.82, both from 384 pixels
        ),
        ("its own images are better than unrelated ones", "mix", "others", None),
        (
            "labels overfit where mixup does not",
            "labels+mixup",
            "labels",
            _paper("labels+mixup", 300, "labels"),
        ),
        ("a central crop is better than the whole image", "fix/cc", "fix/rs", None),
        ("the same crop is better than a mean of many", "same/ic", "fix/ic_ens", None),
        (
            "the same mild crop is better than independent ones",
            "same/rc",
            "ind/rc",
            None,
        ),
    )
    for words, arm, other, value in rows:
        key = f"others/{arm}/{other}"
        yield Comparison(key, words, (arm, epochs), (other, epochs), value)
