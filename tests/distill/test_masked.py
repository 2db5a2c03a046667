"""Classes masked by -inf: as if the logits had no such class."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_heuristics import distill
from tests.distill import oracles
from tests.distill.nets import quick
from tests.modes import MODES

MASKED = [1, 5]  # classes, of seven
LEFT = [0, 2, 3, 4, 6]
LABELS = np.array([0, 2, 3, 4, 6])  # among the classes as they are
SHORT = np.arange(5)  # among those that are left
STUDENT, TEACHER = oracles.logits(0), oracles.logits(1)

# (student, teacher, labels, temperature) -> [batch]
LOSSES = {
    "kl": lambda s, t, _, tau: distill.kl(s, t, tau),
    "soft_cross_entropy": lambda s, t, _, tau: distill.soft_cross_entropy(s, t, tau),
    "hinton": distill.hinton,
    "fitnet_loss": lambda s, t, labels, tau: distill.fitnet_loss(
        s, t, labels, 4.0, tau
    ),
    "hard_labels": lambda s, _, labels, tau: distill.hard_labels(s, labels),
    "hard_labels, smooth": lambda s, _, labels, tau: distill.hard_labels(
        s, labels, 0.1
    ),
    "logit_matching": lambda s, t, *_: distill.logit_matching(s, t),
    "logit_matching, plain": lambda s, t, *_: distill.logit_matching(
        s, t, centred=False
    ),
    "l2": lambda s, t, *_: distill.l2(s, t),
    "agreement": lambda s, t, *_: distill.agreement(s, t, 2),
    "dkd": lambda s, t, labels, tau: distill.dkd(s, t, labels, temperature=tau),
    "dist": lambda s, t, _, tau: distill.dist(s, t, temperature=tau),
    "reverse_kl": lambda s, t, _, tau: distill.reverse_kl(s, t, tau),
    "js": lambda s, t, _, tau: distill.js(s, t, tau),
    "kl, standardized": lambda s, t, _, tau: distill.kl(
        *map(distill.standardize, (s, t)), tau
    ),
}
# The teacher's own masked classes, which the student has not.
ONE_SIDED = ("kl", "soft_cross_entropy", "hinton", "fitnet_loss", "dkd")


def masked(logits, fill=-np.inf):
    logits = logits.copy()
    logits[:, MASKED] = fill
    return logits


@functools.cache
def compiled(name):
    """Value and gradients in the student and in the temperature."""
    loss = LOSSES[name]

    def run(student, teacher, labels, temperature):
        def total(student, temperature):
            return loss(student, teacher, labels, temperature).sum()

        gradients = jax.grad(total, (0, 1))(student, temperature)
        return loss(student, teacher, labels, temperature), *gradients

    return quick(run)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("temperature", [1e-2, 1.0, 3.0, 1e3])
def test_a_masked_class_is_no_class(name, dtype, temperature):
    student, teacher = (jnp.asarray(x, dtype) for x in (STUDENT, TEACHER))
    run = functools.partial(compiled(name), temperature=jnp.float32(temperature))
    expected = run(student[:, LEFT], teacher[:, LEFT], SHORT)
    masks = masked(np.asarray(student)), masked(np.asarray(teacher))
    found = run(*masks, LABELS)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5, atol=1e-10)
    gradient = np.asarray(found[1], np.float32)
    close = 1e-5 if dtype == jnp.float32 else 1e-2
    np.testing.assert_allclose(
        gradient[:, LEFT],
        np.asarray(expected[1], np.float32),
        rtol=close,
        atol=close * np.abs(gradient).max() + 1e-30,
    )
    assert not gradient[:, MASKED].any()
    assert np.isfinite(found[2])


@pytest.mark.parametrize("name", ONE_SIDED)
def test_a_class_that_the_teacher_alone_masks_has_probability_0(name):
    run = compiled(name)
    found = run(STUDENT, masked(TEACHER), LABELS, 3.0)
    expected = run(STUDENT, masked(TEACHER, -1e9), LABELS, 3.0)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ONE_SIDED)
def test_what_the_student_rules_out_though_the_teacher_has_it_is_infinite(name):
    value, *gradients = compiled(name)(masked(STUDENT), TEACHER, LABELS, 3.0)
    assert np.isposinf(value).all()
    assert not np.isnan(gradients[0]).any()
    value, *gradients = compiled("hard_labels")(
        masked(STUDENT), TEACHER, LABELS * 0 + 1, 1.0
    )
    assert np.isposinf(value).all()
    assert np.isfinite(gradients[0]).all()


@pytest.mark.parametrize("name", ["logit_matching", "logit_matching, plain", "l2"])
def test_distances_to_a_class_that_one_of_them_masks_are_infinite(name):
    for pair in ((masked(STUDENT), TEACHER), (STUDENT, masked(TEACHER))):
        value, gradient, _ = compiled(name)(*pair, LABELS, 1.0)
        assert np.isposinf(value).all()
        assert not np.isnan(gradient).any()


# In DIST, an example spoils its batch.
@pytest.mark.parametrize("name", sorted(set(LOSSES) - {"agreement", "l2", "dist"}))
def test_neither_a_nan_nor_a_row_without_classes_is_hidden(name):
    for fill in (np.nan, np.inf):
        student = STUDENT.copy()
        student[1, 3] = fill
        value = compiled(name)(masked(student), masked(TEACHER), LABELS, 1.0)[0]
        assert not np.isfinite(value[1])
        assert np.isfinite(np.delete(value, 1)).all()
    nothing = np.full_like(STUDENT, -np.inf)
    value = compiled(name)(nothing, nothing, LABELS, 1.0)[0]
    assert np.isnan(value).all()


def test_three_logits_by_hand():
    found = distill.hard_labels(jnp.array([[2.0, 1.0, -jnp.inf]]), jnp.array([0]))
    np.testing.assert_allclose(found, [np.log1p(np.exp(-1))], rtol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("mode", MODES)
def test_settings_change_nothing(name, mode):
    arguments = masked(STUDENT), masked(TEACHER), LABELS, jnp.float32(3.0)
    expected = LOSSES[name](*arguments)
    with MODES[mode]():
        found = LOSSES[name](*arguments)
        gradient = jax.grad(lambda s: LOSSES[name](s, *arguments[1:]).sum())(
            jnp.asarray(arguments[0])
        )
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=1e-10)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("weights", [(0.0, 0.5), (np.float32(0), 0.5), (1.0, 0)])
def test_a_term_of_weight_zero_is_left_out(weights):
    """Though a masked class makes it infinite."""
    student, teacher = np.float32([[2, 1, -np.inf]]), np.float32([[1, 3, 0.5]])
    soft, hard = weights
    labels = np.array([0 if hard else 2])
    found = distill.hinton(
        student,
        teacher if hard else student,
        labels,
        soft_weight=soft,
        hard_weight=hard,
    )
    expected = 0.5 * np.log1p(np.exp(-1.0)) if hard else 0.0
    np.testing.assert_allclose(found, [expected], rtol=1e-6)
    if hard:
        left = distill.fitnet_loss(student, teacher, labels, weight=soft)
        np.testing.assert_allclose(left, [2 * expected], rtol=1e-6)
