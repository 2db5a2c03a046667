"""Losses on logits against float64 NumPy and against each other."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kd_heuristics import data, distill
from tests.distill import oracles
from tests.distill.nets import quick
from tests.distill.oracles import LABELS

STUDENT, TEACHER = oracles.logits(0), oracles.logits(1)
# Sums of a few float32 terms, each within 1e-7 of its size.
CLOSE = 2e-6

kl = jax.jit(distill.kl)
kl_gradient = jax.jit(jax.grad(lambda s, t, tau: distill.kl(s, t, tau).sum()))


def test_kl_of_two_coins():
    # p = (1/4, 3/4), q = (1/2, 1/2); and at T = 2 of the logits doubled, times 4.
    student, teacher = np.zeros((1, 2)), np.array([[0.0, np.log(3)]])
    expected = 0.25 * np.log(0.5) + 0.75 * np.log(1.5)
    np.testing.assert_allclose(kl(student, teacher, 1.0), [expected], rtol=CLOSE)
    doubled = kl(2 * student, 2 * teacher, 2.0)
    np.testing.assert_allclose(doubled, [4 * expected], rtol=CLOSE)


@pytest.mark.parametrize("temperature", [1e-2, 0.3, 1.0, 5.0, 1e3])
@pytest.mark.parametrize("scale", [1e-2, 1.0, 30.0, 1e4])
def test_kl_has_small_relative_error(scale, temperature):
    student, teacher = oracles.logits(0, scale), oracles.logits(1, scale)
    temperature = float(np.float32(temperature))
    expected = oracles.kl(student, teacher, temperature)
    found = np.float64(kl(student, teacher, temperature))
    # Where nothing but rounding is left of the plain formula, it is no oracle; below
    # 1e-30 the products leave float32.
    told = expected > max(1e-16 * temperature**2, 1e-30)
    np.testing.assert_allclose(found[told], np.float64(expected[told]), rtol=1e-5)
    assert np.all((found[~told] >= 0) & (found[~told] < 1e-7))
    log_q = oracles.log_softmax(student, temperature)
    log_p = oracles.log_softmax(teacher, temperature)
    gradient = np.float64(temperature * (np.exp(log_q) - np.exp(log_p)))
    np.testing.assert_allclose(
        kl_gradient(student, teacher, temperature),
        gradient,
        atol=2e-6 * np.abs(gradient).max() + 1e-30,
    )


def test_kl_of_equal_logits_is_zero_and_sees_no_common_constant():
    assert kl(STUDENT, STUDENT, 3.0).tolist() == [0.0] * len(STUDENT)
    moved = kl(STUDENT + 512.0, TEACHER - 512.0, 3.0)
    # The sums with 512 are rounded to 3e-5.
    np.testing.assert_allclose(moved, kl(STUDENT, TEACHER, 3.0), atol=1e-3)


def test_kl_is_below_infinity_for_opposite_certainties():
    student, teacher = np.array([[1e4, -1e4]]), np.array([[-1e4, 1e4]])
    # T^2 * (2e4 / T)
    np.testing.assert_allclose(kl(student, teacher, 1e-2), [2e4 * 1e-2], rtol=CLOSE)
    np.testing.assert_allclose(kl(student, teacher, 1.0), [2e4], rtol=CLOSE)


def test_soft_cross_entropy_is_kl_and_the_teachers_entropy():
    expected = oracles.soft_cross_entropy(STUDENT, TEACHER, 3.0)
    soft_cross_entropy = quick(distill.soft_cross_entropy)
    found = soft_cross_entropy(STUDENT, TEACHER, 3.0)
    np.testing.assert_allclose(found, np.float64(expected), rtol=CLOSE)
    entropy = soft_cross_entropy(TEACHER, TEACHER, 3.0)
    np.testing.assert_allclose(
        found, kl(STUDENT, TEACHER, 3.0) / 9 + entropy, rtol=CLOSE
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_hard_labels(smoothing):
    found = quick(distill.hard_labels)(STUDENT, LABELS, smoothing)
    expected = np.float64(oracles.hard_labels(STUDENT, LABELS, smoothing))
    np.testing.assert_allclose(found, expected, rtol=CLOSE)
    one_hot = jax.nn.one_hot(LABELS, STUDENT.shape[1])
    smoothed = optax.smooth_labels(one_hot, smoothing)
    theirs = optax.softmax_cross_entropy(STUDENT, smoothed)
    np.testing.assert_allclose(found, theirs, rtol=CLOSE)


@pytest.mark.parametrize("label", [-1, 7])
def test_a_label_outside_the_classes_is_not_learnt_silently(label):
    labels = np.array([0, label, 0, 0, 0])
    found = jax.jit(distill.hard_labels)(STUDENT, labels)
    assert np.isnan(found).tolist() == [False, True, False, False, False]


@pytest.mark.parametrize(("dtype", "classes"), [(np.int8, 1000), (np.uint8, 256)])
def test_labels_of_a_narrower_type_than_the_number_of_classes(dtype, classes):
    logits = np.random.default_rng(0).normal(size=(3, classes))
    labels = np.array([0, 5, 127])
    found = distill.hard_labels(logits, labels.astype(dtype))
    expected = np.float64(oracles.hard_labels(logits, labels))
    np.testing.assert_allclose(found, expected, rtol=CLOSE)


def test_hinton_weighs_both_terms_and_keeps_t_squared():
    soft = oracles.kl(STUDENT, TEACHER, 4.0)
    hard = oracles.hard_labels(STUDENT, LABELS)

    @quick
    def found(soft_weight=1.0, hard_weight=0.5):
        weights = {"soft_weight": soft_weight, "hard_weight": hard_weight}
        return distill.hinton(STUDENT, TEACHER, LABELS, 4.0, **weights)

    default = quick(distill.hinton)(STUDENT, TEACHER, LABELS, 4.0)
    np.testing.assert_allclose(default, found(), rtol=CLOSE)

    for weights, expected in (
        ({"soft_weight": 1.0, "hard_weight": 0.5}, soft + 0.5 * hard),
        ({"soft_weight": 0.9, "hard_weight": 0.1}, 0.9 * soft + 0.1 * hard),
        ({"hard_weight": 0.0}, soft),
        ({"soft_weight": 0.0, "hard_weight": 1.0}, hard),
    ):
        np.testing.assert_allclose(found(**weights), np.float64(expected), rtol=CLOSE)


def test_logit_matching_is_the_limit_of_kl():
    found = distill.logit_matching(STUDENT, TEACHER)
    expected = oracles.logit_matching(STUDENT, TEACHER)
    np.testing.assert_allclose(found, expected, rtol=CLOSE)
    # Of order logits / T = 3e-3.
    np.testing.assert_allclose(kl(STUDENT, TEACHER, 1e3), expected, rtol=5e-3)
    plain = distill.logit_matching(STUDENT, TEACHER, centred=False)
    halves = oracles.square(STUDENT, TEACHER) / (2 * STUDENT.shape[1])
    np.testing.assert_allclose(plain, halves, rtol=CLOSE)


def test_l2_sums_over_all_axes_but_the_first():
    student, teacher = (np.float32(oracles.pairs(seed)[0][0]) for seed in (0, 1))
    found = distill.l2(student, teacher)
    np.testing.assert_allclose(found, oracles.square(student, teacher), rtol=CLOSE)


@pytest.mark.parametrize("k", [1, 3, 7])
def test_agreement(k):
    student, teacher = (
        np.random.default_rng(seed).normal(size=(200, 7)).astype(np.float32)
        for seed in (0, 1)
    )
    found = distill.agreement(student, teacher, k)
    assert found.tolist() == oracles.agreement(student, teacher, k).tolist()
    assert (found.mean() == 1) == (k == 7)


def test_a_collapsed_student_agrees_with_the_first_class_only():
    teacher = np.eye(4, dtype=np.float32)
    found = distill.agreement(np.zeros((4, 4), np.float32), teacher, 1)
    assert found.tolist() == [1.0, 0.0, 0.0, 0.0]


BAD = [
    (distill.kl, (STUDENT, TEACHER[:, :6]), r"\(5, 7\) and \(5, 6\).*label sets"),
    (distill.kl, (STUDENT, TEACHER[:4]), r"\(5, 7\) and \(4, 7\)"),
    (distill.kl, (STUDENT[0], TEACHER[0]), r"\(7,\).*x\[None\]"),
    (distill.kl, (STUDENT[:, :1], TEACHER[:, :1]), r"at least 2 classes"),
    (distill.kl, (STUDENT, TEACHER.astype(int)), r"teacher logits holds int32"),
    (distill.kl, (STUDENT, TEACHER, 0), r"temperature must be above 0.*got 0"),
    (distill.kl, (STUDENT, TEACHER, -1.0), r"got -1"),
    (distill.kl, (STUDENT, TEACHER, np.nan), r"got nan"),
    (distill.kl, (STUDENT, TEACHER, np.inf), r"finite and real, got inf"),
    (distill.kl, (STUDENT, TEACHER, np.ones(5)), r"scalar, got shape \(5,\).*vmap"),
    (distill.soft_cross_entropy, (STUDENT, TEACHER, 0.0), r"temperature"),
    (distill.logit_matching, (STUDENT, TEACHER[:, 1:]), r"\(5, 6\)"),
    (distill.l2, (STUDENT, TEACHER[:, 1:]), r"\(5, 6\); .*regressor"),
    (distill.l2, (STUDENT[0], TEACHER[0]), r"\[batch, \.\.\.\]"),
    (distill.hard_labels, (STUDENT, LABELS[:4]), r"int32\[4\]; wanted integers \[5\]"),
    (distill.hard_labels, (STUDENT, TEACHER), r"add up to 1, got .*argmax"),
    (distill.hard_labels, (STUDENT, TEACHER[:, 1:]), r"\[5, 6\]; wanted .*\[5, 7\]"),
    (distill.hard_labels, (STUDENT, np.eye(7, dtype=int)[:5]), r"\[5, 7\]; .*argmax"),
    (distill.dkd, (STUDENT, TEACHER, oracles.softmax(TEACHER)), r"float32\[5, 7\]"),
    (distill.masked_mean, (STUDENT, STUDENT > 9), r"false everywhere.*leave out"),
    (
        distill.masked_mean,
        (STUDENT, STUDENT[0] > 0),
        r"bool\[7\]; wanted bool \[5, 7\]",
    ),
    (distill.masked_mean, (STUDENT, STUDENT), r"float32\[5, 7\].*mask > 0"),
    (
        distill.hard_labels,
        (STUDENT, LABELS, 1.0),
        r"smoothing must lie in .0, 1., got 1",
    ),
    (distill.hard_labels, (STUDENT, LABELS, -0.1), r"got -0\.1"),
    (distill.agreement, (STUDENT, TEACHER, 0), r"k must lie in \[1, 7\].*got 0"),
    (distill.agreement, (STUDENT, TEACHER, 8), r"got 8"),
    (distill.hinton, (STUDENT, TEACHER, LABELS[:3]), r"wanted integers \[5\]"),
]


@pytest.mark.parametrize(("loss", "arguments", "words"), BAD)
def test_what_is_wrong_is_said(loss, arguments, words):
    with pytest.raises(ValueError, match=words):
        loss(*arguments)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("positions", [(), (2,)])
def test_soft_labels_against_the_formula(smoothing, positions):
    """Of mixup: shares of two classes; integers are the one-hot rows."""
    rng = np.random.default_rng(0)
    logits, teacher = rng.normal(size=(2, 5, *positions, 7)).astype(np.float32)
    rows = np.eye(7, dtype=np.float32)[rng.integers(0, 7, (5, *positions))]
    shares = np.asarray(data.views.mix(jnp.asarray(rows), 0.7))
    targets = (1 - smoothing) * np.float64(shares) + smoothing / 7
    expected = np.float64(-(targets * oracles.log_softmax(logits)).sum(-1))
    hard = quick(distill.hard_labels)
    np.testing.assert_allclose(hard(logits, shares, smoothing), expected, rtol=CLOSE)
    np.testing.assert_allclose(
        hard(logits, rows, smoothing),
        hard(logits, rows.argmax(-1), smoothing),
        rtol=CLOSE,
    )
    if not smoothing:
        found = distill.hinton(logits, teacher, shares, 3.0)
        soft = oracles.kl(logits, teacher, 3.0)
        np.testing.assert_allclose(found, np.float64(soft) + expected / 2, rtol=CLOSE)
        if not positions:
            found = distill.fitnet_loss(logits, teacher, shares, 2.0, 3.0)
            soft = 2 * oracles.soft_cross_entropy(logits, teacher, 3.0)
            np.testing.assert_allclose(found, np.float64(soft) + expected, rtol=CLOSE)


def test_soft_labels_and_masked_classes():
    logits = STUDENT.copy()
    logits[:, 2] = -np.inf
    labels = np.zeros((5, 7), np.float32)
    labels[:, [0, 1]] = 0.25, 0.75
    found, gradient = jax.value_and_grad(
        lambda x: distill.hard_labels(x, labels).sum()
    )(jnp.asarray(logits))
    kept = np.delete(logits, 2, 1)
    expected = -(np.delete(labels, 2, 1) * oracles.log_softmax(kept)).sum()
    np.testing.assert_allclose(found, np.float64(expected), rtol=CLOSE)
    assert np.isfinite(gradient).all()
    labels[:, [1, 2]] = 0.5, 0.25  # a share of a class that the student rules out
    assert np.isposinf(distill.hard_labels(logits, labels)).all()


@pytest.mark.parametrize("wrong", [[0.5, 0.6, 0.0], [1.5, -0.5, 0.0], [0.0, 0.0, 0.0]])
def test_traced_shares_that_are_none_give_nan(wrong):
    labels = np.float32([[0.5, 0.5, 0.0], wrong])
    found = quick(distill.hard_labels)(np.zeros((2, 3), np.float32), labels)
    assert np.isnan(found).tolist() == [False, True]
    with pytest.raises(ValueError, match=r"shares of the classes, at least 0"):
        distill.hard_labels(np.zeros((2, 3), np.float32), labels)


def test_a_masked_mean_leaves_out_what_is_not_a_number():
    values = np.float32([[1, np.nan, 5], [np.inf, 2, 4]])
    mask = np.array([[True, False, True], [False, False, True]])
    found, gradient = jax.value_and_grad(distill.masked_mean)(jnp.asarray(values), mask)
    np.testing.assert_allclose(found, 10 / 3, rtol=1e-6)
    np.testing.assert_allclose(gradient, mask / 3, rtol=1e-6)
    assert np.isnan(quick(distill.masked_mean)(values, mask & False))


def test_a_negative_weight_is_refused():
    with pytest.raises(ValueError, match=r"hard_weight must be at least 0.*got -1"):
        distill.hinton(STUDENT, TEACHER, LABELS, hard_weight=-1)


def test_a_population_of_temperatures_is_one_program():
    temperatures = jnp.array([0.5, 1.0, 20.0])
    found = jax.jit(jax.vmap(distill.kl, (None, None, 0)))(
        STUDENT, TEACHER, temperatures
    )
    expected = [oracles.kl(STUDENT, TEACHER, t) for t in (0.5, 1.0, 20.0)]
    np.testing.assert_allclose(found, np.float64(expected), rtol=CLOSE)
