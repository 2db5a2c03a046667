"""Losses on logits after 2015 against float64 NumPy, as the papers' formulas stand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_heuristics import distill
from tests.distill import oracles
from tests.distill.nets import quick
from tests.distill.oracles import LABELS
from tests.modes import enable_x64

STUDENT, TEACHER = oracles.logits(0), oracles.logits(1)
NONE = np.full_like(STUDENT, -np.inf)


def softmax(logits, temperature=1.0):
    return np.exp(np.float64(oracles.log_softmax(logits, temperature)))


def kl_of(p, q):
    """Of probabilities above 0."""
    return (p * np.log(p / q)).sum(-1)


def dkd(student, teacher, temperature=4.0, alpha=1.0, beta=8.0, labels=LABELS):
    found = []
    for s, t, y in zip(student, teacher, labels, strict=True):
        q, p = softmax(s, temperature), softmax(t, temperature)
        binary = kl_of(np.array([p[y], 1 - p[y]]), np.array([q[y], 1 - q[y]]))
        others = np.arange(len(p)) != y
        rest = kl_of(p[others] / (1 - p[y]), q[others] / (1 - q[y]))
        found.append(temperature**2 * (alpha * binary + beta * rest))
    return np.array(found)


def dist(student, teacher, temperature=1.0, beta=1.0, gamma=1.0):
    """The paper's loss of a batch."""
    q, p = softmax(student, temperature), softmax(teacher, temperature)
    rows = [np.corrcoef(a, b)[0, 1] for a, b in zip(q, p, strict=True)]
    columns = [np.corrcoef(a, b)[0, 1] for a, b in zip(q.T, p.T, strict=True)]
    return beta * (1 - np.mean(rows)) + gamma * (1 - np.mean(columns))


def js(student, teacher, temperature=1.0, weight=0.5):
    q, p = softmax(student, temperature), softmax(teacher, temperature)
    m = weight * p + (1 - weight) * q
    return weight * kl_of(p, m) + (1 - weight) * kl_of(q, m)


def standardize(logits):
    logits = np.float64(logits)
    return (logits - logits.mean(-1, keepdims=True)) / logits.std(-1, keepdims=True)


# (function of student and teacher, its oracle)
CASES = {
    "dkd": (lambda s, t: distill.dkd(s, t, LABELS), dkd),
    "dkd, weighted": (
        lambda s, t: distill.dkd(s, t, LABELS, temperature=2.0, alpha=0.5, beta=3.0),
        functools.partial(dkd, temperature=2.0, alpha=0.5, beta=3.0),
    ),
    "dist": (lambda s, t: distill.dist(s, t).mean(), dist),
    "dist, weighted": (
        lambda s, t: distill.dist(s, t, beta=2.0, gamma=0.5, temperature=4.0).mean(),
        functools.partial(dist, temperature=4.0, beta=2.0, gamma=0.5),
    ),
    "reverse_kl": (
        lambda s, t: distill.reverse_kl(s, t, 3.0),
        lambda s, t: 9 * kl_of(softmax(s, 3.0), softmax(t, 3.0)),
    ),
    "js": (lambda s, t: distill.js(s, t, 2.0), functools.partial(js, temperature=2.0)),
    "js, weighted": (
        lambda s, t: distill.js(s, t, weight=0.1),
        functools.partial(js, weight=0.1),
    ),
    "standardize": (lambda s, t: distill.standardize(s), lambda s, t: standardize(s)),
    "standardized kl": (
        lambda s, t: distill.kl(*map(distill.standardize, (s, t)), 2.0),
        lambda s, t: np.float64(oracles.kl(standardize(s), standardize(t), 2.0)),
    ),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("scale", [0.1, 3.0])
def test_the_papers_formulas(name, scale):
    ours, oracle = CASES[name]
    student, teacher = oracles.logits(0, scale), oracles.logits(1, scale)
    expected = oracle(student, teacher)
    with enable_x64(True):
        found = quick(ours)(*(jnp.float64(x) for x in (student, teacher)))
        assert found.dtype == jnp.float64
        np.testing.assert_allclose(found, expected, rtol=1e-9)
    # Differences of float32 logits, whose rounding is 1e-7 of the largest.
    np.testing.assert_allclose(
        quick(ours)(student, teacher), expected, rtol=2e-5, atol=1e-6
    )


LOSSES = {
    "dkd": lambda s, t: distill.dkd(s, t, LABELS[: len(s)]),
    "dist": distill.dist,
    "reverse_kl": distill.reverse_kl,
    "js": distill.js,
    "standardize": lambda s, t: distill.standardize(s).sum(-1),
    "standardized": lambda s, t: distill.kl(*map(distill.standardize, (s, t)), 2.0),
}


@functools.cache
def compiled(name):
    def run(student, teacher):
        total = jax.grad(lambda s: LOSSES[name](s, teacher).sum())
        return LOSSES[name](student, teacher), total(student)

    return jax.jit(run)


DEGENERATE = {
    "zeros": (0 * STUDENT, 0 * TEACHER),
    "equal": (TEACHER, TEACHER),
    "equal rows": (np.tile(STUDENT[:1], (5, 1)), np.tile(TEACHER[:1], (5, 1))),
    "teacher of zeros": (STUDENT, 0 * TEACHER),
    "student of zeros": (0 * STUDENT, TEACHER),
    "a constant": (0 * STUDENT + 7.3, TEACHER),
    "opposite certainties": (1e4 * np.sign(STUDENT), 1e4 * np.sign(TEACHER)),
    "tiny": (1e-30 * STUDENT, 1e-30 * TEACHER),
    "one class left": (
        np.where(np.arange(7) == LABELS[:, None], STUDENT, NONE),
        np.where(np.arange(7) == LABELS[:, None], TEACHER, NONE),
    ),
    "one example": (STUDENT[:1], TEACHER[:1]),
}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("case", DEGENERATE)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_degenerate_logits_give_finite_values_and_gradients(name, case, dtype):
    student, teacher = (jnp.asarray(x, dtype) for x in DEGENERATE[case])
    value, gradient = compiled(name)(student, teacher)
    assert value.dtype == jnp.float32
    if case != "one class left" or name != "standardize":  # a sum with -inf
        assert np.isfinite(value).all()
    assert np.isfinite(np.float32(gradient)).all()
    if case == "equal" and name not in ("dkd", "standardize"):
        np.testing.assert_allclose(value, 0, atol=1e-12)


def test_reverse_kl_is_kl_of_the_two_exchanged():
    found = distill.reverse_kl(STUDENT, TEACHER, 3.0)
    assert found.tolist() == distill.kl(TEACHER, STUDENT, 3.0).tolist()
    gradients = jax.grad(lambda *x: distill.reverse_kl(*x).sum(), (0, 1))
    to_student, to_teacher = gradients(*map(jnp.asarray, (STUDENT, TEACHER)))
    q, p = softmax(STUDENT), softmax(TEACHER)
    ratio = np.log(q / p)
    # d/dz_i of sum_j q_j log(q_j / p_j)
    expected = q * (ratio - (q * ratio).sum(-1, keepdims=True))
    np.testing.assert_allclose(to_student, expected, atol=2e-6)
    assert not to_teacher.any()


def test_js_is_symmetric_at_one_half_and_bounded():
    there, back = distill.js(STUDENT, TEACHER), distill.js(TEACHER, STUDENT)
    np.testing.assert_allclose(there, back, rtol=1e-6)
    apart = 100 * np.eye(5, dtype=np.float32)
    for weight in (0.5, 0.1):
        bound = -weight * np.log(weight) - (1 - weight) * np.log(1 - weight)
        found = distill.js(apart, np.roll(apart, 1, 1), weight=weight)
        np.testing.assert_allclose(found, bound, rtol=1e-6)
        sharp = distill.js(30 * STUDENT, 30 * TEACHER, weight=weight)
        assert (sharp <= bound * (1 + 2e-7)).all()  # float32's rounding
    # Exchanging the two exchanges their shares.
    np.testing.assert_allclose(
        distill.js(STUDENT, TEACHER, weight=0.2),
        distill.js(TEACHER, STUDENT, weight=0.8),
        rtol=1e-5,
    )


def test_js_over_its_weight_tends_to_both_divergences():
    with enable_x64(True):
        logits = [jnp.float64(x) for x in (STUDENT, TEACHER)]
        small = 1e-7
        forward = distill.js(*logits, weight=small) / small
        backward = distill.js(*logits, weight=1 - small) / small
        np.testing.assert_allclose(forward, distill.kl(*logits), rtol=1e-4)
        np.testing.assert_allclose(backward, distill.reverse_kl(*logits), rtol=1e-4)


def test_js_of_near_logits_keeps_its_digits():
    near = STUDENT * np.float32(1 + 2e-4)
    expected = js(near, STUDENT)
    np.testing.assert_allclose(distill.js(near, STUDENT), expected, rtol=5e-3)


def test_dkd_weighted_as_in_kl_is_kl():
    p = softmax(TEACHER, 4.0)[np.arange(5), LABELS].astype(np.float32)

    @jax.vmap
    def found(student, teacher, label, share):
        arguments = student[None], teacher[None], label[None]
        return distill.dkd(*arguments, alpha=1.0, beta=1 - share)[0]

    np.testing.assert_allclose(
        found(STUDENT, TEACHER, LABELS, p), distill.kl(STUDENT, TEACHER, 4.0), rtol=1e-5
    )


def test_dkd_of_labels_that_are_no_class():
    labels = np.array([0, 7, 2, -1, 5])
    with pytest.raises(ValueError, match=r"labels must lie in \[0, 7\), got 7; give"):
        distill.dkd(STUDENT, TEACHER, labels)
    found = jax.jit(distill.dkd)(STUDENT, TEACHER, labels)
    assert np.isnan(found).tolist() == [False, True, False, True, False]


def test_dist_does_not_see_affine_maps_of_predictions():
    p = softmax(TEACHER)

    def towards_uniform(share):
        return np.log(share * p + (1 - share) / 7).astype(np.float32)

    # One map for all rows is a map of the columns too.
    np.testing.assert_allclose(
        distill.dist(towards_uniform(0.3), TEACHER), 0, atol=1e-9
    )
    shares = np.linspace(0.2, 0.9, 5)[:, None]
    of_rows = [
        distill.dist(towards_uniform(shares), TEACHER, beta=b, gamma=1.0 - b).mean()
        for b in (1.0, 0.0)
    ]
    np.testing.assert_allclose(of_rows[0], 0, atol=1e-9)
    assert of_rows[1] > 1e-2
    # Predictions turned round have correlation -1 by row and by column.
    turned = np.log((1 - p) / 6).astype(np.float32)
    np.testing.assert_allclose(distill.dist(turned, TEACHER).mean(), 4, rtol=1e-5)


def test_standardize_has_mean_0_and_deviation_1_and_sees_no_affine_map():
    found = distill.standardize(STUDENT)
    np.testing.assert_allclose(found.mean(-1), 0, atol=1e-6)
    np.testing.assert_allclose(found.std(-1), 1, rtol=1e-5)
    moved = distill.standardize(100 * STUDENT + 3)
    np.testing.assert_allclose(moved, found, atol=1e-5)
    assert not distill.standardize(0 * STUDENT + 7.3).any()


def test_a_class_that_one_side_masks():
    student = STUDENT.copy()
    student[:, 1] = -np.inf  # no label
    low = np.where(np.isinf(student), -1e9, student).astype(np.float32)
    for pair, limit in (((student, TEACHER), (low, TEACHER)),):
        assert np.isposinf(distill.dkd(*pair, LABELS)).all()
        assert np.isposinf(distill.reverse_kl(*pair[::-1])).all()
        for loss in (distill.js, distill.dist):
            np.testing.assert_allclose(loss(*pair), loss(*limit), rtol=1e-5)
            np.testing.assert_allclose(loss(*pair[::-1]), loss(*limit[::-1]), rtol=1e-5)
        np.testing.assert_allclose(
            distill.reverse_kl(*pair), distill.reverse_kl(*limit), rtol=1e-5
        )
    for name in LOSSES:
        assert np.isfinite(compiled(name)(student, TEACHER)[1]).all()
        assert np.isfinite(compiled(name)(TEACHER, student)[1]).all()


def test_a_class_masked_in_some_rows_only():
    """DIST: a column has the examples that have the class."""
    mask = np.zeros(STUDENT.shape, bool)
    mask[0, 2] = mask[3, 5] = True
    student, teacher = (np.where(mask, -np.inf, x) for x in (STUDENT, TEACHER))
    q, p = (np.ma.array(softmax(x), mask=mask) for x in (student, teacher))

    def correlation(a, b):
        left = ~np.ma.getmaskarray(a)
        return np.corrcoef(a[left].data, b[left].data)[0, 1]

    rows = [correlation(*pair) for pair in zip(q, p, strict=True)]
    columns = [correlation(*pair) for pair in zip(q.T, p.T, strict=True)]
    found = distill.dist(student, teacher).mean()
    np.testing.assert_allclose(found, 2 - np.mean(rows) - np.mean(columns), rtol=1e-5)
    kept = distill.standardize(student)
    assert (np.isneginf(kept) == mask).all()
    np.testing.assert_allclose(kept[0, [0, 1, 3, 4, 5, 6]].std(), 1, rtol=1e-5)


POSITIONS = {
    "kl": lambda s, t, y: distill.kl(s, t, 3.0),
    "soft_cross_entropy": lambda s, t, y: distill.soft_cross_entropy(s, t, 3.0),
    "hinton": lambda s, t, y: distill.hinton(s, t, y, 3.0),
    "hard_labels": lambda s, t, y: distill.hard_labels(s, y, 0.1),
    "logit_matching": lambda s, t, y: distill.logit_matching(s, t),
    "agreement": lambda s, t, y: distill.agreement(s, t, 2),
    "fitnet_loss": lambda s, t, y: distill.fitnet_loss(s, t, y, 4.0),
    "dkd": distill.dkd,
    "dist": lambda s, t, y: distill.dist(s, t),
    "reverse_kl": lambda s, t, y: distill.reverse_kl(s, t),
    "js": lambda s, t, y: distill.js(s, t),
    "standardize": lambda s, t, y: distill.standardize(s),
}


@pytest.mark.parametrize("name", POSITIONS)
def test_positions_are_further_examples(name):
    loss = quick(POSITIONS[name])
    rng = np.random.default_rng(3)
    student, teacher = rng.normal(size=(2, 2, 3, 4, 7)).astype(np.float32)
    labels = rng.integers(0, 7, (2, 3, 4))
    found = loss(student, teacher, labels)
    flat = loss(student.reshape(-1, 7), teacher.reshape(-1, 7), labels.reshape(-1))
    assert found.shape == ((2, 3, 4, 7) if name == "standardize" else (2, 3, 4))
    np.testing.assert_allclose(found.reshape(flat.shape), flat, rtol=1e-5, atol=1e-6)


BAD = [
    (lambda: distill.dkd(STUDENT, TEACHER[:, :6], LABELS), r"\(5, 7\) and \(5, 6\)"),
    (lambda: distill.dkd(STUDENT, TEACHER, LABELS[:4]), r"wanted integers \[5\]"),
    (lambda: distill.dkd(STUDENT, TEACHER, LABELS, temperature=0), r"above 0, got 0"),
    (lambda: distill.dkd(STUDENT, TEACHER, LABELS, alpha=-1), r"alpha must be at lea"),
    (lambda: distill.dkd(STUDENT, TEACHER, LABELS, beta=np.nan), r"beta .* got nan"),
    (lambda: distill.dist(STUDENT, TEACHER[:4]), r"\(5, 7\) and \(4, 7\)"),
    (lambda: distill.dist(STUDENT, TEACHER, temperature=np.inf), r"finite.*got inf"),
    (lambda: distill.dist(STUDENT, TEACHER, gamma=-1), r"gamma must be at least 0"),
    (lambda: distill.dist(STUDENT, TEACHER, beta=-1), r"beta must be at least 0"),
    (lambda: distill.standardize(LABELS), r"logits holds int"),
    (lambda: distill.standardize(STUDENT[0]), r"\(7,\); wanted \[batch, \.\.\., class"),
    (lambda: distill.reverse_kl(STUDENT, TEACHER, -2.0), r"temperature .*got -2"),
    (lambda: distill.js(STUDENT, TEACHER, np.nan), r"temperature .*got nan"),
    (lambda: distill.js(STUDENT, TEACHER, weight=0), r"weight must be above 0, got 0"),
    (lambda: distill.js(STUDENT, TEACHER, weight=1), r"weight must lie in .*got 1"),
]


@pytest.mark.parametrize(("call", "words"), BAD)
def test_what_is_wrong_is_said(call, words):
    with pytest.raises(ValueError, match=words):
        call()
