"""What the paper compares: two students, or one and its teacher.

The paper's values are those of its table 3 (ImageNet). Its 300 and 4,800 epochs stand
for our shortest and longest training, 1,200 for the one before the longest. A config
that has these lengths itself is judged at them. On the sets of table 4 the values are
those of that table; the paper gives no others.
"""

import dataclasses
from collections.abc import Iterator

from experiments.funmatch import published
from experiments.funmatch.arms import ARMS
from experiments.funmatch.config import Config

TEACHER_224 = 83.0  # accuracy on ImageNet, in per cent
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


def comparisons(config: Config) -> list[Comparison]:
    """The comparisons of the arms and lengths that run."""
    runs = {(arm, s.epochs) for arm in config.arms for s, _ in config.plan(arm)}
    at = _Lengths.of(config)
    rows = [
        *_consistent(config, at),
        *_patient(config, at),
        *_overfit(at),
        *_cheaper(at),
        *_others(config),
    ]
    trained = [
        its
        for its in rows
        if its.first in runs and (its.second is None or its.second in runs)
    ]
    if config.dataset not in published.DATASETS:
        return trained
    preset = published.DATASETS[config.dataset]
    return [dataclasses.replace(its, paper=_of_set(preset, its)) for its in trained]


def _of_set(preset: str, its: Comparison) -> float | None:
    """The difference of two cells of table 4 in points; None if it lacks one."""
    if its.distance:
        return None
    arm, epochs = its.second or ("teacher", 0)
    return _points(
        published.accuracy(preset, *its.first),
        published.accuracy(preset, arm, epochs),
    )


@dataclasses.dataclass(frozen=True)
class _Lengths:
    """The lengths that stand for the paper's 30, 300, 1,200 and 4,800 epochs."""

    first: int
    short: int
    before: int
    long: int

    @classmethod
    def of(cls, config: Config) -> "_Lengths":
        epochs = [setting.epochs for setting in config.settings]
        if {300, 1200, 4800} <= {*epochs}:
            return cls(epochs[0], 300, 1200, 4800)
        return cls(epochs[0], epochs[0], epochs[-2:][0], epochs[-1])


def _paper(
    arm: str,
    epochs: int,
    other: str,
    others: int | None = None,
    preset: str = "imagenet",
) -> float | None:
    """The difference of two cells of table 3 in points; None if it lacks one."""
    return _points(
        published.accuracy(preset, arm, epochs),
        published.accuracy(preset, other, epochs if others is None else others),
    )


def _consistent(config: Config, at: _Lengths) -> Iterator[Comparison]:
    """Who sees which pixels, at the longest and the shortest training."""
    rows = (
        ("a consistent teacher is better than a fixed one", "same/ic", "fix/cc"),
        ("a consistent teacher is better than independent views", "same/ic", "ind/ic"),
        ("independent views are better than a fixed teacher", "ind/ic", "fix/cc"),
    )
    for words, arm, other in rows:
        yield Comparison(
            f"distance/{arm}/{other}",
            f"{words}: the student comes closer to its teacher",
            (arm, at.long),
            (other, at.long),
            main=(arm, other) == ("same/ic", "fix/cc"),
            distance=True,
        )
    for words, arm, other in (*rows, ("mixup helps long runs", "mix", "same/ic")):
        yield Comparison(
            f"longest/{arm}/{other}",
            words,
            (arm, at.long),
            (other, at.long),
            _paper(arm, 4800, other),
        )
    if at.first < at.long:
        yield Comparison(
            "shortest/same/ic/mix",
            "short runs mislead: after the shortest, mixup is behind",
            ("same/ic", at.first),
            ("mix", at.first),
            _paper("same/ic", 30, "mix", preset=_table(config)),
        )


def _table(config: Config) -> str:
    """The preset whose rows of table 3 a config has; ours have ImageNet's.

    The others have rows of their own, one without 4,800 epochs.
    """
    if config.dataset == "imagenet2012" and config.student_size == 160:
        return "imagenet_160"
    if config.dataset == "imagenet2012" and config.teacher_size == 384:
        return "imagenet_384"
    return "imagenet"


def _patient(config: Config, at: _Lengths) -> Iterator[Comparison]:
    """What longer trainings bring."""
    if at.short == at.long:
        return
    table = _table(config)
    long, short = (at.long, at.short) if table != "imagenet" else (4800, 300)
    for arm in ("mix", "same/ic"):
        yield Comparison(
            f"patience/{arm}",
            f"patience helps: {ARMS[arm].words}",
            (arm, at.long),
            (arm, at.short),
            _paper(arm, long, arm, short, table),
            main=arm == "mix",
        )
    reached = published.accuracy("imagenet", "mix", 9600)
    yield Comparison(
        "patience/teacher",
        "a patient student reaches its teacher",
        ("mix", config.settings[-1].epochs),
        None,
        _points(reached, TEACHER_224) if table == "imagenet" else None,
        kind="as_good",
    )
    if at.before == at.short:  # no length lies between the two
        return
    yield Comparison(
        "patience/fix/cc",
        "a fixed teacher overfits: its longest training ends below the one before",
        ("fix/cc", at.before),
        ("fix/cc", config.settings[-1].epochs),
        _paper("fix/cc", 1200, "fix/cc", 9600),
    )
    yield Comparison(
        "patience/mix/same/ic",
        "mixup in the training before the longest does as well as none in the longest",
        ("mix", at.before),
        ("same/ic", at.long),
        _paper("mix", 1200, "same/ic", 4800),
        kind="as_good",
    )


def _overfit(at: _Lengths) -> Iterator[Comparison]:
    """What long trainings lose without a consistent teacher."""
    yield Comparison(
        "overfits/fix/cc",
        "a fixed teacher overfits from 600 epochs on",
        ("fix/cc", 600),
        ("fix/cc", 9600),
        _paper("fix/cc", 600, "fix/cc", 9600),
    )
    if at.before == at.long:
        return
    for arm in ("labels", "labels+mixup", "labels_sgd", "labels_sgd+mixup"):
        yield Comparison(
            f"overfits/{arm}",
            f"long trainings overfit: {ARMS[arm].words}",
            (arm, at.before),
            (arm, at.long),
            _paper(arm, 1200, arm, 4800),
        )


def _cheaper(at: _Lengths) -> Iterator[Comparison]:
    """What Shampoo and first weights bring, and for how long (Figure 5)."""
    if at.before == at.long:
        return
    shampoo = Comparison(
        "shampoo/shampoo_same/same/ic",
        "Shampoo does as well, in the training before the longest, as Adam in it",
        ("shampoo_same", at.before),
        ("same/ic", at.long),
        _paper("shampoo_same", 1200, "same/ic", 4800),
        kind="as_good",
    )
    early = Comparison(
        "first-weights/early",
        "a pretrained student is ahead after the shortest training",
        ("pretrained", at.first),
        ("same/ic", at.first),
        _paper("pretrained", 30, "same/ic"),
    )
    late = Comparison(
        "first-weights/late",
        "after the longest training, a student from scratch does as well as a "
        "pretrained one",
        ("same/ic", at.long),
        ("pretrained", at.long),
        _paper("same/ic", 4800, "pretrained"),
        kind="as_good",
    )
    for its in (shampoo, early, late):
        yield its
        yield _by_distance(its)


def _by_distance(its: Comparison) -> Comparison:
    """The same comparison by distances from the teacher, which the paper lacks."""
    words = f"{its.words}, by distance from the teacher"
    key = f"distance/{its.key}"
    return dataclasses.replace(its, key=key, words=words, paper=None, distance=True)


def _others(config: Config) -> Iterator[Comparison]:
    """One change each, at one length; the paper's 300 epochs, or 1,200."""
    epochs = config.other_epochs
    imagenet = (
        ("Shampoo is better than Adam", "shampoo", "mix"),
        ("a pretrained student is better in short runs", "pretrained", "same/ic"),
        ("a teacher is better than labels", "mix", "labels+mixup"),
        (
            "group norm is better than batch norm for MobileNet",
            "mobilenet_gn",
            "mobilenet_bn",
        ),
        ("labels overfit where mixup does not", "labels+mixup", "labels"),
    )
    figures: tuple[tuple[str, str, str, float | None], ...] = (
        (
            "two teachers at two resolutions are better than one",
            "ensemble",
            "mix",
            _paper("ensemble", 1200, "mix", preset="imagenet_384"),
        ),
        (
            "two teachers are better than one for MobileNet, group norm",
            "mobilenet_gn_two",
            "mobilenet_gn",
            _two_for("mobilenet_gn"),
        ),
        (
            "two teachers are better than one for MobileNet, batch norm",
            "mobilenet_bn_two",
            "mobilenet_bn",
            _two_for("mobilenet_bn"),
        ),
        (
            "a student at its teacher's resolution is better than a smaller one",
            "full_size",
            "mix",
            _points(
                published.accuracy("imagenet", "mix", 300),
                published.accuracy("imagenet_160", "mix", 300),
            ),
        ),
        ("its own images are better than unrelated ones", "mix", "others", None),
        ("related images are better than unrelated ones", "related", "others", None),
        ("a central crop is better than the whole image", "fix/cc", "fix/rs", None),
        ("a mean of many crops beats the whole image", "fix/ic_ens", "fix/rs", None),
        ("independent mild crops beat the whole image", "ind/rc", "fix/rs", None),
        ("the same crop is better than a mean of many", "same/ic", "fix/ic_ens", None),
        (
            "the same mild crop is better than independent ones",
            "same/rc",
            "ind/rc",
            None,
        ),
    )
    rows = [(*row, _paper(row[1], 300, row[2])) for row in imagenet]
    for words, arm, other, value in (*rows, *figures):
        key = f"others/{arm}/{other}"
        its = Comparison(key, words, (arm, epochs), (other, epochs), value)
        yield its
        # Of one teacher alike; students of two have no single one to be far from.
        if arm in ("shampoo", "mobilenet_gn"):
            yield _by_distance(its)
    longest = config.settings[-1].epochs
    yield Comparison(
        "others/related",
        "related images do as well as its own after the longest training",
        ("related", longest),
        ("mix", longest),
        kind="as_good",
    )


def _two_for(arm: str) -> float | None:
    """What a second teacher brings a network after the paper's 300 epochs."""
    return _points(
        published.accuracy("imagenet_384", f"{arm}_two", 300),
        published.accuracy("imagenet", arm, 300),
    )


def _points(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else round(a - b, 2)
