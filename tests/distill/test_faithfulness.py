"""Fidelity and calibration against float64 loops over examples and bins."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_heuristics import distill
from tests.distill import oracles
from tests.distill.nets import quick

RNG = np.random.default_rng(0)
STUDENT, TEACHER = RNG.normal(size=(2, 300, 7)).astype(np.float32) * 2
LABELS = np.where(RNG.random(300) < 0.6, STUDENT.argmax(-1), RNG.integers(0, 7, 300))
MASK = RNG.random(300) < 0.8


def expected_error(logits, labels, bins):
    p = np.float64(oracles.softmax(logits))
    confidence, right = p.max(-1), p.argmax(-1) == labels
    total = 0.0
    for m in range(bins):
        inside = (confidence > m / bins) & (confidence <= (m + 1) / bins)
        if inside.any():
            gap = right[inside].mean() - confidence[inside].mean()
            total += inside.sum() / len(labels) * abs(gap)
    return total


@pytest.mark.parametrize("bins", [1, 10, 15])
@pytest.mark.parametrize("masked", [False, True])
def test_calibration_error_against_a_loop_over_bins(bins, masked):
    mask = MASK if masked else np.ones(300, bool)
    found = distill.calibration_error(
        STUDENT, LABELS, mask=mask if masked else None, bins=bins
    )
    expected = expected_error(STUDENT[mask], LABELS[mask], bins)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_set_in_parts_has_the_error_of_the_whole():
    parts = [
        distill.calibration_gaps(STUDENT[i : i + 100], LABELS[i : i + 100])
        for i in (0, 100, 200)
    ]
    found = np.abs(np.mean(parts, (0, 1))).sum()
    np.testing.assert_allclose(found, expected_error(STUDENT, LABELS, 15), rtol=1e-5)


def test_certainty_that_is_right_and_certainty_that_is_wrong():
    sure = np.float32(100 * np.eye(4))
    assert float(distill.calibration_error(sure, np.arange(4))) == 0
    assert float(distill.calibration_error(sure, np.arange(4)[::-1])) == 1
    assert np.isnan(distill.calibration_error(sure * np.nan, np.arange(4)))


@pytest.mark.parametrize("positions", [False, True])
def test_fidelity_against_loops(positions):
    shape = (100, 3) if positions else (300,)
    found = quick(distill.fidelity)(
        STUDENT.reshape(*shape, 7),
        TEACHER.reshape(*shape, 7),
        LABELS.reshape(shape),
        mask=MASK.reshape(shape),
    )
    student, teacher, labels = STUDENT[MASK], TEACHER[MASK], LABELS[MASK]
    same = [s.argmax() == t.argmax() for s, t in zip(student, teacher, strict=True)]
    expected = {
        "agreement": np.mean(same),
        "divergence": np.float64(oracles.kl(student, teacher).mean()),
        "accuracy": (student.argmax(-1) == labels).mean(),
        "teacher_accuracy": (teacher.argmax(-1) == labels).mean(),
        "calibration_error": expected_error(student, labels, 15),
        "teacher_calibration_error": expected_error(teacher, labels, 15),
    }
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, err_msg=name)
    itself = distill.fidelity(TEACHER, TEACHER, LABELS)
    assert float(itself["agreement"]) == 1
    assert float(itself["divergence"]) < 1e-12


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"bins": 0}, r"bins must be at least 1, got 0"),
        ({"mask": np.zeros(300, bool)}, r"mask \[300\] is false everywhere"),
        ({"mask": MASK[:9]}, r"bool\[9\]; wanted bool \[300\]"),
    ],
)
def test_bad_options_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        distill.fidelity(STUDENT, TEACHER, LABELS, **options)


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"\(300, 7\) and \(300, 6\)"):
        distill.fidelity(STUDENT, TEACHER[:, 1:], LABELS)
    with pytest.raises(ValueError, match=r"wanted integers \[300\]"):
        distill.fidelity(STUDENT, TEACHER, jax.nn.one_hot(jnp.asarray(LABELS), 7))
