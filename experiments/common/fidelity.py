"""Fidelity of students to their teacher, on train and test (Stanton et al. 2021).

Stanton et al., "Does Knowledge Distillation Really Work?": students of soft targets may
generalise well and still not match their teacher, even on training images. Arrays are
named "ARM/fidelity/SET/NUMBER", [seeds] or [seeds, nets].
"""

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from experiments.common.charts import Arrays
from kd_heuristics import distill, training
from kd_heuristics.plots import Axis, Chart, Figure, Series, style
from kd_heuristics.runs import Claim, summary
from kd_heuristics.runtime import parallel
from kd_heuristics.runtime.compiled import jit

SETS = ("train", "test")
NUMBERS = ("agreement", "divergence", "accuracy", "calibration_error")
SOURCE = "Stanton et al. 2021"
AGREEMENT = 1.0  # smallest difference of agreements that counts, in points


@functools.partial(jit, static_argnums=0)
def logits(classifier: training.Classifier, variables: Any, batches: Any) -> jax.Array:
    """Logits of a network in evaluation mode, [batches, batch, classes]."""

    def one(images):
        return classifier.network.apply(variables, classifier.inputs(images))

    return jax.lax.map(one, batches["images"])


_measured = jit(distill.fidelity)


def measure(
    students: Mapping[Any, tuple[training.Classifier, Any]],
    teacher: tuple[training.Classifier, Any],
    sets: Mapping[str, Any],
) -> dict[str, np.ndarray]:
    """Measures students against their teacher: `{"ARM/fidelity/test/agreement": ...}`.

    Args:
      students: classifier and variables by arm.
      teacher: classifier and variables.
      sets: batches with "images", "labels" and "mask", by name.
    """
    found = {}
    for split, batches in sets.items():
        targets = logits(teacher[0], teacher[1], batches)
        for arm, (classifier, variables) in students.items():
            own = _measured(
                logits(classifier, variables, batches),
                targets,
                batches["labels"],
                mask=batches["mask"],
            )
            for name, value in parallel.to_host(own).items():
                if name in NUMBERS:
                    found[key(arm, split, name)] = np.asarray(value, float)
    return found


def key(arm: Any, split: str, name: str) -> str:
    """Names the array of a number.

    >>> key("independent", "test", "agreement")
    'independent/fidelity/test/agreement'
    """
    return f"{arm}/fidelity/{split}/{name}"


def results(arms: Iterable[str], arrays: Arrays) -> dict[str, Any]:
    """Summarises all numbers of the arms that were measured."""
    return {
        arm: {
            split: {
                name: summary(_by_seed(arrays, arm, split, name)) for name in NUMBERS
            }
            for split in SETS
        }
        for arm in arms
        if key(arm, SETS[-1], NUMBERS[0]) in arrays
    }


def claims(arm: str, other: str, words: str, trainings: Sequence[str]) -> list[Claim]:
    """Makes two secondary claims on a taught arm and another.

    Args:
      arm: the taught arm.
      other: an arm that is taught less, or by labels alone.
      words: of the claim that it agrees more with its teacher.
      trainings: that the claims need.
    """
    options: dict[str, Any] = {
        "kind": "difference",
        "smallest_effect": AGREEMENT,
        "trainings": trainings,
    }
    return [
        Claim(
            key=f"fidelity/{arm}/{other}",
            words=f"{words} ({SOURCE})",
            unit="points of agreement on test images",
            **options,
        ),
        Claim(
            key=f"fidelity/{arm}/train",
            words=f"even on training images it does not match its teacher ({SOURCE})",
            unit="points of disagreement on training images",
            **options,
        ),
    ]


def statistics(pairs: Iterable[tuple[str, str]], arrays: Arrays) -> dict[str, Any]:
    """The statistics of `claims` for each pair of arms, [seeds]."""
    found = {}
    for arm, other in pairs:
        test, alone = (_by_seed(arrays, a, "test", "agreement") for a in (arm, other))
        train = _by_seed(arrays, arm, "train", "agreement")
        count = min(len(test), len(alone))  # some arms have one seed
        found[f"fidelity/{arm}/{other}"] = 100 * (test[:count] - alone[:count])
        found[f"fidelity/{arm}/train"] = 100 * (1 - train)
    return found


def figure(names: Mapping[str, str], arrays: Arrays) -> Figure:
    """Draws fidelity against generalisation, a point a seed.

    Args:
      names: display name of each arm.
      arrays: of the run.
    """
    arms = [arm for arm in names if key(arm, "test", "agreement") in arrays]

    def chart(title, x, y):
        series = []
        for place, arm in enumerate(arms):
            along, up = (
                100 * _by_seed(arrays, arm, split, name) for split, name, _ in (x, y)
            )
            color = style.COLORS[place % len(style.COLORS)]
            marker = "osDx"[place // len(style.COLORS) % 4]
            own: dict[str, Any] = {"line": "none", "marker": marker}
            series.append(Series(along, up, names[arm], color, **own))
        return Chart(title, Axis(x[2], "%"), Axis(y[2], "%"), series, legend=False)

    test = "test", "agreement", "agreement with the teacher, test"
    panels = [
        chart(
            "(a) Fidelity and accuracy", test, ("test", "accuracy", "accuracy, test")
        ),
        chart(
            "(b) Fidelity on training images",
            ("train", "agreement", "agreement with the teacher, train"),
            test,
        ),
        chart(
            "(c) Fidelity and calibration",
            test,
            ("test", "calibration_error", "expected calibration error, test"),
        ),
    ]
    caption = (
        f"Fidelity against generalisation ({SOURCE}), a point a seed: a student "
        "nearer its teacher need not be a better one"
    )
    size = {"columns": 3, "width": 11.0, "height": 3.6, "legend_below": True}
    return Figure("Fidelity to the teacher", caption, panels, ["fidelity"], **size)


def _by_seed(arrays: Arrays, arm: str, split: str, name: str) -> np.ndarray:
    """A number of each seed; the mean over its nets."""
    found = np.asarray(arrays[key(arm, split, name)], float)
    return found.reshape(len(found), -1).mean(1)
