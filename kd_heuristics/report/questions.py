"""The questions that the page opens with, and the studies that answer them."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Question:
    """A question of the papers.

    Attributes:
      words: the question.
      study: name of the run folder that answers it.
      paper: who asked.
      figure: the study's picture of it.
      main: starts of the statistics of the claims that answer it; (): the first three.
    """

    words: str
    study: str
    paper: str
    figure: str
    main: tuple[str, ...] = ()


GOTMARE = "Gotmare et al. 2019"
QUESTIONS = (
    Question(
        "Do restarts escape minima?", "sgdr", GOTMARE, "figure2", ("barrier sgdr",)
    ),
    Question(
        "What does warmup protect?",
        "warmup",
        GOTMARE,
        "figure4",
        (
            "FC similarity, warmup minus large",
            "early accuracy, freeze_fc minus warmup",
            "early accuracy, freeze_fc minus freeze_random",
        ),
    ),
    Question(
        "Where does a teacher's knowledge go?",
        "distillation",
        GOTMARE,
        "figure6",
        ("change of FC layers", "FC layers: distance to another start"),
    ),
    Question(
        "Does patience pay?",
        "funmatch",
        "Beyer et al. 2022",
        "patience",
        ("test accuracy, longest minus shortest",),
    ),
    Question(
        "Are differently trained networks joined?",
        "mode_connectivity",
        GOTMARE,
        "figure1",
        ("worst accuracy minus worse end",),
    ),
    Question(
        "Is the flow of a solution a good teacher?", "fsp", "Yim et al. 2017", "tables"
    ),
)

# What a figure is called, and which claims it shows: starts of their statistics.
CAPTIONS: dict[str, dict[str, tuple[str, tuple[str, ...]]]] = {
    "sgdr": {
        "figure2": (
            "Figure 2: accuracy, learning rates, and train loss between iterates",
            ("barrier",),
        ),
        "figure3": (
            "Figure 3: loss on the plane of two iterates and their bend",
            ("least gain",),
        ),
        "figures12_13": ("Figures 12 and 13: another such plane", ("least gain",)),
        "figure11": (
            "Figure 11: what Figure 2 leaves out along the paths",
            ("least gain",),
        ),
        "figure14": (
            "Figure 14: layers over a restart, and from first to last",
            ("similarity",),
        ),
        "barriers": ("Barriers beside the distance of the two networks", ("barrier",)),
    },
    "mode_connectivity": {
        "figure1": (
            "Figure 1: test accuracy along the curves",
            ("worst accuracy minus",),
        ),
        "figure7": ("Figure 7: test loss along the curves", ("test loss at the bend",)),
        "figure8": ("Figure 8: train accuracy along the curves", ()),
        "figure9": ("Figure 9: train loss along the curves", ()),
        "figure10": ("Figure 10: t-SNE of modes and bends", ()),
        "kinds": ("Kinds of curve side by side", ("worst accuracy, chain",)),
        "epochs": ("While curves are fitted", ("worst accuracy, last", "test loss")),
    },
    "warmup": {
        "figure4": (
            "Figure 4: accuracy, rates, and what the first epochs change",
            ("final accuracy", "early accuracy, warmup", "FC similarity"),
        ),
        "figure5": (
            "Figure 5: layers before against after the warmup",
            ("FC similarity",),
        ),
        "figure5_paper": ("Figure 5 as the paper has it", ()),
        "figure15": ("Figure 15: ResNets", ("early accuracy",)),
        "controls": (
            "All arms, and controls that the paper lacks",
            ("early accuracy",),
        ),
    },
    "distillation": {
        "figure6": (
            "Figure 6: student's layers against the teacher's",
            ("change of FC",),
        ),
        "layers": ("Where knowledge lands, and the nulls", ("FC layers",)),
        "temperatures": ("Temperatures", ("accuracy",)),
    },
    "funmatch": {
        "patience": (
            "Figures 1, 2 and 4: accuracy and distance from the teacher by epochs",
            ("",),
        ),
        "variants": ("Figure 3 and the other arms, at one length", ("",)),
        "curves": ("The longest training", ()),
    },
    "fsp": {
        "tables": ("Tables 1 to 5: ours beside the paper's", ()),
        "figure3": ("Figure 3: training loss and test accuracy", ("share of steps",)),
    },
}


def caption(study: str, figure: str) -> str:
    """What a figure is called; its own name where it is not known here."""
    known = CAPTIONS.get(study, {}).get(figure)
    return known[0] if known else figure.replace("_", " ").capitalize()


def starts(study: str, figure: str) -> tuple[str, ...]:
    """How the statistics of the claims begin that a figure shows."""
    known = CAPTIONS.get(study, {}).get(figure)
    return known[1] if known else ()
