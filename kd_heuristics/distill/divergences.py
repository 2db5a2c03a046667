"""Losses between logits after 2015: DKD, DIST, standardised logits, other divergences.

The conventions of `losses` for logits, masks, types and gradients apply: logits
[batch, ..., classes], one value per position, in at least float32, and no gradient for
the teacher. Each docstring states whether the loss has a factor T squared.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from kd_heuristics.distill import checks, softened, units
from kd_heuristics.runtime import values


def dkd(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike,
    labels: ArrayLike,
    *,
    temperature: ArrayLike = 4.0,
    alpha: ArrayLike = 1.0,
    beta: ArrayLike = 8.0,
) -> jax.Array:
    """Decoupled distillation of label and other classes (Zhao et al. 2022, sec. 3).

    alpha * T^2 * KL(b^T || b^S) + beta * T^2 * KL(o^T || o^S)

    b = (p_y, 1 - p_y) is the softened prediction of the label y and of all other
    classes together; o is the prediction among the other classes, p_i / (1 - p_y). It
    equals `kl` for alpha = 1 and beta = 1 - p_y of the teacher. The factor T^2 follows
    the authors' code. If the teacher masks all classes except the label's, the second
    term is 0.

    Args:
      student_logits: float [batch, ..., classes].
      teacher_logits: float [batch, ..., classes].
      labels: integers [batch, ...]; the value is NaN for a traced label outside the
        classes. Labels of several classes do not split the prediction in two, so soft
        ones are refused.
      temperature: T, positive.
      alpha: weight of the label's term, at least 0.
      beta: weight of the other classes' term, at least 0.

    Returns: [batch, ...], in nats.

    Raises: ValueError as in `losses`, and for labels outside [0, classes).

    >>> student, teacher = jnp.zeros((1, 3)), jnp.array([[0.0, 5.0, 5.0]])
    >>> label = jnp.array([0])  # the other classes agree: the first term is left
    >>> dkd(student, teacher, label) == dkd(student, teacher, label, beta=0.0)
    Array([ True], dtype=bool)
    """
    student, teacher, scale = checks.softened_logits(
        student_logits, teacher_logits, temperature
    )
    labels = checks.class_labels(labels, student.shape[:-1])
    checks.weight("alpha", alpha)
    checks.weight("beta", beta)
    classes = student.shape[-1]
    inside = checks.within("labels", labels, classes, "give the classes' numbers")
    label = jax.nn.one_hot(labels, classes, dtype=bool)
    others = ~label & ~jnp.isneginf(teacher)
    none = ~others.any(-1, keepdims=True)
    pair = [_two_classes(array, label, scale) for array in (student, teacher)]
    target = softened.divergence(pair[0], pair[1], scale)
    without = [jnp.where(label & ~none, -jnp.inf, x) for x in (student, teacher)]
    rest = softened.divergence(without[0], without[1], scale)
    rest = jnp.where(none[..., 0], 0, rest)
    value = checks.weighted(alpha, target) + checks.weighted(beta, rest)
    return jnp.where(inside, value, jnp.nan)


def dist(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike,
    *,
    beta: ArrayLike = 1.0,
    gamma: ArrayLike = 1.0,
    temperature: ArrayLike = 1.0,
) -> jax.Array:
    """Correlation of predictions, by example and by class (Huang et al. 2022, sec. 3).

    beta * (1 - r(q_b, p_b)) + gamma / C * sum_j B / 2 * (u_bj - v_bj)^2

    q = softmax(student_logits / T), p likewise, and r is Pearson's correlation over the
    classes. u_j and v_j are the columns q_j and p_j over the B examples, centred and
    divided by their norms. Since 1 - r(q_j, p_j) = 1/2 * sum_b (u_bj - v_bj)^2, the
    batch mean of the values is the paper's loss; its intra-class term is not defined
    for a single example. There is no factor T^2. A constant row or column has
    correlation 0 and no gradient; in a batch of one example, all columns are constant.

    An example's value depends on the rest of its batch; NaN in one makes all NaN.
    Positions, the axes between batch and classes, count as further examples. A row
    excludes classes that both networks mask, and C excludes classes that both mask in
    every row; a class that only one network masks has probability 0.

    Args:
      student_logits: float [batch, ..., classes].
      teacher_logits: float [batch, ..., classes].
      beta: weight of the inter-class term, by example; at least 0.
      gamma: weight of the intra-class term, by class; at least 0.
      temperature: T, positive.

    Returns: [batch, ...].

    Raises: ValueError as in `losses`.

    >>> student, teacher = jnp.eye(3), 2 * jnp.eye(3)  # predictions on one line
    >>> bool(dist(student, teacher).max() < 1e-12)
    True
    """
    student, teacher, scale = checks.softened_logits(
        student_logits, teacher_logits, temperature
    )
    checks.weight("beta", beta)
    checks.weight("gamma", gamma)
    shape = student.shape[:-1]
    q, out = _rows(student, scale)
    p, teacher_out = _rows(teacher, scale)
    there = ~(out & teacher_out)
    by_example = _from_correlation(q, p, 1, there).sum(1)
    classes = there.any(0).sum().astype(q.dtype)
    by_class = _from_correlation(q, p, 0, there).sum(1) * len(q) / classes
    inter, intra = by_example.reshape(shape), by_class.reshape(shape)
    return checks.weighted(beta, inter) + checks.weighted(gamma, intra)


def standardize(logits: ArrayLike) -> jax.Array:
    """Standardises logits, for any logit loss (Sun et al. 2024).

    (z - mean z) / std z over the classes, std^2 = mean (z - mean z)^2. Applied to both
    networks, as in `kl(standardize(s), standardize(t), 2.0)`, it makes the loss
    independent of the logits' scale. The temperature remains an argument of the loss.
    The authors' code uses the unbiased deviation, which equals a temperature
    sqrt(C / (C - 1)) times as high. A row of equal logits becomes 0, with gradient 0.
    Masked classes stay masked and do not count. Gradients pass through; the losses stop
    the teacher's.

    Args:
      logits: float [batch, ..., classes].

    Returns: the same shape, in at least float32.

    Raises: ValueError for bad logits, as in `losses`.

    >>> standardize(jnp.array([[1.0, 3.0, 1.0, 3.0]])).tolist()
    [[-1.0, 1.0, -1.0, 1.0]]
    """
    array, out = softened.masked(checks.logits("logits", logits))
    count = (~out).sum(-1, keepdims=True).astype(array.dtype)
    return jnp.where(out, -jnp.inf, units.centred(array, -1, ~out) * jnp.sqrt(count))


# Says its arguments again, so that the docstring can be read by itself.
def reverse_kl(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike,
    temperature: ArrayLike = 1.0,
) -> jax.Array:
    """Reverse KL divergence, which seeks modes (MiniLLM, Gu et al. 2024).

    T^2 * sum_i q_i (log q_i - log p_i), q = softmax(student_logits / T),
    p = softmax(teacher_logits / T). The paper has T = 1; the factor T^2 follows `kl`.
    The value is inf if the teacher masks a class that the student does not.

    Args:
      student_logits: float [batch, ..., classes].
      teacher_logits: float [batch, ..., classes].
      temperature: T, positive.

    Returns: [batch, ...], in nats, at least 0.

    Raises: ValueError as in `losses`.

    >>> student, teacher = jnp.array([[0.0, jnp.log(3.0)]]), jnp.array([[0.0, 0.0]])
    >>> round(float(reverse_kl(student, teacher)[0]), 4)  # 1/4 log(1/2) + 3/4 log(3/2)
    0.1308
    """
    student, teacher, scale = checks.softened_logits(
        student_logits, teacher_logits, temperature
    )
    return softened.divergence(teacher, student, scale)


def js(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike,
    temperature: ArrayLike = 1.0,
    weight: ArrayLike = 0.5,
) -> jax.Array:
    """Generalised Jensen-Shannon divergence (GKD, Agarwal et al. 2024).

    w KL(p || m) + (1 - w) KL(q || m), m = w p + (1 - w) q, w = weight, p and q as in
    `kl`. As in the paper, there is no factor T^2, so that the value is at most
    -w log w - (1 - w) log(1 - w), or log 2 for w = 1/2. It is finite even if one
    network masks a class. Divided by w it tends to KL(p || q) as w goes to 0; divided
    by 1 - w, to KL(q || p) as w goes to 1.

    Args:
      student_logits: float [batch, ..., classes].
      teacher_logits: float [batch, ..., classes].
      temperature: T, positive.
      weight: w, in (0, 1), the teacher's share of the mixture.

    Returns: [batch, ...], in nats, at least 0.

    Raises: ValueError as in `losses`, and for a weight outside (0, 1).

    >>> student, teacher = jnp.array([[0.0, -jnp.inf]]), jnp.array([[-jnp.inf, 0.0]])
    >>> round(float(js(student, teacher)[0]), 4)  # log 2
    0.6931
    """
    student, teacher, scale = checks.softened_logits(
        student_logits, teacher_logits, temperature
    )
    values.require("weight", weight, 0, "for the limits use kl or reverse_kl", True)
    values.require_share("weight", weight, "for the limits use kl or reverse_kl")
    w = jnp.asarray(weight, student.dtype)
    student, out = softened.logits(student, scale)
    teacher, teacher_out = softened.logits(teacher, scale)
    p, q, ratio = softened.ratios(student, teacher)
    # Beyond these limits, the smaller of p_i and q_i adds nothing.
    ratio = ratio.clip(-80, 80)
    m = w * p + (1 - w) * q
    of_teacher = softened.terms(p, m, -jnp.log1p((1 - w) * jnp.expm1(-ratio)))
    of_student = softened.terms(q, m, -jnp.log1p(w * jnp.expm1(ratio)))
    value = (w * of_teacher + (1 - w) * of_student).sum(-1)
    return jnp.where(out.all(-1) | teacher_out.all(-1), jnp.nan, value)


def _two_classes(logits, label, scale):
    """Returns logits [..., 2] of the label and of all other classes together, at T."""
    chosen = jnp.where(label, logits, -jnp.inf).max(-1)
    others = jnp.where(label, -jnp.inf, logits)
    soft, out = softened.logits(others, scale)
    largest = jax.lax.stop_gradient(softened.masked(others)[0].max(-1))
    together = largest + scale * jax.nn.logsumexp(soft, -1)
    return jnp.stack([chosen, jnp.where(out.all(-1), -jnp.inf, together)], -1)


def _from_correlation(q, p, axis, there):
    """Returns terms (u - v)^2 / 2 of 1 - r along an axis, for unit vectors u and v.

    If u or v is 0, r is 0, and the terms share the missing part of 1 equally.
    """
    u, v = units.centred(q, axis, there), units.centred(p, axis, there)
    nothing = [~(x != 0).any(axis, keepdims=True) for x in (u, v)]
    missing = sum(x.astype(q.dtype) for x in nothing)
    count = jnp.maximum(there.sum(axis, keepdims=True), 1).astype(q.dtype)
    return jnp.square(u - v) / 2 + jnp.where(there, missing / 2 / count, 0)


def _rows(logits, scale):
    """Returns softened predictions [examples, classes], 0 if masked, and the mask."""
    soft, out = softened.logits(logits.reshape(-1, logits.shape[-1]), scale)
    nothing = out.all(-1, keepdims=True)
    return jnp.where(nothing, jnp.nan, jax.nn.softmax(soft, -1)), out
