"""A table of losses: students of labels and one more loss, at equal steps.

Each minimises the cross-entropy with labels and a loss of `kd_heuristics.distill`, with
the weight that its paper gives it beside labels of weight 1, where it does. (Sun et al.
weigh the labels by 0.1, which is not followed here.) The start, batches and rates of a
seed are those of its other students. The table has the last epoch's test accuracy and
the best epoch's, which many papers report; the best one is chosen on the test images
themselves.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from experiments.common import teaching
from experiments.distillation import contrast
from experiments.distillation.config import Config, LossName
from experiments.distillation.networks import Networks
from kd_heuristics import distill
from kd_heuristics.plots import Axis, Chart, Figure, Reference, Series, style
from kd_heuristics.runs import Claim, summary

ACCURACY = 0.5  # smallest difference that counts, in points


@dataclasses.dataclass(frozen=True)
class Seen:
    """What the losses compare of a network, in its order.

    Attributes:
      logits: name of the last layer.
      embedding: name of the layer before.
      map: name of the layer for attention.
    """

    logits: str
    embedding: str
    map: str

    def __call__(self, features):
        return {name: features[layer] for name, layer in vars(self).items()}


def _logits(loss: Callable) -> Callable:
    return lambda student, teacher, labels: loss(student["logits"], teacher["logits"])


def _flat(seen):
    return seen["embedding"].reshape(len(seen["embedding"]), -1)


# (student, teacher, labels) -> [batch], added to the cross-entropy with labels. "crd",
# which has a state, is in `contrast`.
LOSSES: Mapping[LossName, Callable] = {
    "kl": _logits(lambda s, t: distill.kl(s, t, 4.0)),
    "dkd": lambda s, t, labels: distill.dkd(s["logits"], t["logits"], labels),
    "dist": _logits(lambda s, t: distill.dist(s, t, beta=2.0, gamma=2.0)),
    "standardized_kl": _logits(
        lambda s, t: 9 * distill.kl(distill.standardize(s), distill.standardize(t), 2.0)
    ),
    "reverse_kl": _logits(lambda s, t: distill.reverse_kl(s, t, 4.0)),
    "js": _logits(distill.js),
    "attention": lambda s, t, _: (
        1000 * distill.attention(s["map"], t["map"], reduction="mean")
    ),
    "rkd": lambda s, t, _: distill.rkd(_flat(s), _flat(t), distance=25.0, angle=50.0),
}
WORDS: Mapping[LossName, str] = {
    "kl": "soft targets, T = 4 (Hinton et al. 2015)",
    "dkd": "decoupled soft targets (Zhao et al. 2022)",
    "dist": "correlations (DIST, Huang et al. 2022)",
    "standardized_kl": "standardised logits (Sun et al. 2024)",
    "reverse_kl": "reverse KL, T = 4 (Gu et al. 2024)",
    "js": "Jensen-Shannon (Agarwal et al. 2024)",
    "attention": "attention (Zagoruyko and Komodakis 2017)",
    "rkd": "relations (RKD, Park et al. 2019)",
    "crd": "contrast (CRD, Tian et al. 2020)",
}


@dataclasses.dataclass(frozen=True)
class Lesson:
    """The objective of a loss: `(teacher, params, batch_stats, batch, key) -> ...`."""

    name: LossName
    student: teaching.Student

    def __call__(self, teacher, params, batch_stats, batch, key):
        own, batch_stats = self.student(params, batch_stats, batch, key)
        labels = batch["labels"]
        soft = LOSSES[self.name](own, teacher(batch), labels)
        value = (distill.hard_labels(own["logits"], labels) + soft).mean()
        right = (own["logits"].argmax(-1) == labels).astype(value.dtype).mean()
        return value, (batch_stats, {"loss": value, "accuracy": right})


def prepare(
    name: LossName, nets: Networks, variables: Any, start: tuple, seed: int
) -> tuple[Callable, tuple]:
    """The objective of a loss, and what the student starts from.

    Args:
      name: of the loss.
      nets: both networks.
      variables: of the teacher.
      start: parameters and running statistics of the student.
      seed: of the student.
    """
    assert nets.guided is not None
    assert nets.hint is not None
    student = Seen(nets.layers[-1], nets.layers[-2], nets.guided)
    teacher = Seen(nets.teacher_layers[-1], nets.teacher_layers[-2], nets.hint)
    learner = teaching.Student(nets.student.classifier, student)
    taught = distill.Teacher(
        teaching.Taught(nets.teacher.classifier, teacher), variables
    )
    if name == "crd":
        return contrast.prepare(nets, learner, taught, start, seed)
    return jax.tree_util.Partial(Lesson(name, learner), taught), start


def stage(name: str) -> str:
    """The stage of a loss's students in the metrics.

    >>> stage("dkd")
    'loss-dkd'
    """
    return f"loss-{name}"


def results(config: Config, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Test accuracy of the last epoch and of the best one, in points."""
    if not config.losses:
        return {}
    rows = {"labels": "independent"} | {name: stage(name) for name in config.losses}
    found = {}
    for name, arm in rows.items():
        accuracy = 100 * arrays[f"{arm}/test_accuracy"]
        last, best = accuracy[:, -1], accuracy.max(1)
        found[name] = {"last": summary(last), "best": summary(best)}
    return {"losses": found}


def statistics(config: Config, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """What each loss adds to labels alone at the last epoch, [seeds]."""
    alone = arrays["independent/test_accuracy"][:, -1]
    return {
        f"losses/{name}": 100 * (arrays[f"{stage(name)}/test_accuracy"][:, -1] - alone)
        for name in config.losses
    }


def claims(config: Config) -> list[Claim]:
    """A secondary claim for each loss, against labels alone."""
    return [
        Claim(
            key=f"losses/{name}",
            words=f"{WORDS[name]} and labels make a better student than labels",
            kind="difference",
            smallest_effect=ACCURACY,
            unit="points of test accuracy",
            trainings=("teacher", stage(name), "independent"),
        )
        for name in config.losses
    ]


def figure(results: Mapping[str, Any]) -> Figure:
    """Draws the accuracy of each loss, a row each with its seeds and their mean."""
    found = results["losses"]
    names, series = list(found), []
    rows = np.arange(len(names))
    for epoch, shift, color, marker in (
        ("last", -0.13, style.COLORS[0], "o"),
        ("best", 0.13, style.COLORS[1], "x"),
    ):
        values = np.array([found[name][epoch]["values"] for name in names], float)
        places = np.repeat(rows + shift, values.shape[1])
        one: dict[str, Any] = {"marker": marker, "filled": False, "line": "none"}
        mean: dict[str, Any] = {"marker": "D", "line": "none"}
        series += [
            Series(values.ravel(), places, f"{epoch} epoch, one seed", color, **one),
            Series(values.mean(1), rows + shift, f"{epoch} epoch, mean", color, **mean),
        ]
    words = {"labels": "labels alone", **WORDS}
    x, y = Axis("test accuracy", "%"), Axis(names=[words[name] for name in names])
    alone = Reference(found["labels"]["last"]["mean"], "labels alone, mean", axis="x")
    title = "Losses beside labels, at equal steps"
    panels = [Chart(title, x, y, series, [alone], legend=False)]
    caption = (
        "Losses at equal steps, a point a seed; the best epoch is chosen on the test "
        "images"
    )
    size: dict[str, Any] = {"width": 9.0, "height": 1.6 + 0.3 * len(names)}
    size |= {"columns": 1, "legend_below": True}
    return Figure("Losses", caption, panels, ["losses"], **size)
