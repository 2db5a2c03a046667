"""Losses between logits after 2015: DKD, DIST, standardised logits, other divergences.

What `losses` says of logits, masks, types and gradients holds here too: [batch, ...,
classes], one value a position, in at least float32, none of it differentiated in the
teacher. Whether there is a factor T squared differs from loss to loss: each says it.
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
    """Decoupled distillation: label and other classes apart (Zhao et al. 2022, sec. 3).

    alpha * T^2 * KL(b^T || b^S) + beta * T^2 * KL(o^T || o^S)

    b = (p_y, 1 - p_y) is the softened prediction of the label y and of all other
    classes together, o that of the other classes alone, p_i / (1 - p_y). With alpha = 1
    and beta = 1 - p_y of the teacher it is `kl`. The factor T^2 is that of the
    authors' code. Where the teacher has no class beside the label's, the second term
    is 0.

    Args:
      student_logits: float [batch, ..., classes].
      teacher_logits: float [batch, ..., classes].
      labels: integers [batch, ...]; NaN is returned where a traced one is no class.
      temperature: T, positive.
      alpha: weight of the label's term, at least 0.
      beta: weight of the other classes' term, at least 0.

    Returns: [batch, ...], in nats.

    Raises: ValueError as `losses` says, and for labels outside [0, classes).

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

    q = softmax(student_logits / T), p likewise, r is Pearson's correlation over the
    classes. u_j and v_j are the columns q_j and p_j over the B examples, minus their
    means, over their norms. Since 1 - r(q_j, p_j) = 1/2 * sum_b (u_bj - v_bj)^2, the
    batch mean of the values is the paper's loss, whose intra-class term no single
    example has. There is no factor T^2. A row or column that is constant has
    correlation 0 and no gradient: in a batch of one example, all columns.

    An example's value depends on the others of its batch; NaN in one makes all NaN.
    Positions, the axes between batch and classes, count as further examples. A class
    that both mask is left out of its row, and of C where it is masked everywhere; one
    that one of them masks has probability 0.

    Args:
      student_logits: float [batch, ..., classes].
      teacher_logits: float [batch, ..., classes].
      beta: weight of the inter-class term, by example; at least 0.
      gamma: weight of the intra-class term, by class; at least 0.
      temperature: T, positive.

    Returns: [batch, ...].

    Raises: ValueError as `losses` says.

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
    """Logits of mean 0 and standard deviation 1 (Sun et al. 2024): for any logit loss.

    (z - mean z) / std z over the classes, std^2 = mean (z - mean z)^2. Given to a loss
    for student and teacher alike, as `kl(standardize(s), standardize(t), 2.0)`, it
    leaves the student free in the logits' scale. The temperature stays the loss's. The
    authors' code takes the unbiased deviation, which is the same at a temperature
    sqrt(C / (C - 1)) times as high. A row of equal logits becomes 0, with gradient 0.
    Masked classes stay masked and are not counted. The gradient of the logits is kept:
    the losses stop the teacher's.

    Args:
      logits: float [batch, ..., classes].

    Returns: of the same shape, in at least float32.

    Raises: ValueError as `losses` says of logits.

    >>> standardize(jnp.array([[1.0, 3.0, 1.0, 3.0]])).tolist()
    [[-1.0, 1.0, -1.0, 1.0]]
    """
    array, out = softened.masked(checks.logits("logits", logits))
    count = (~out).sum(-1, keepdims=True).astype(array.dtype)
    return jnp.where(out, -jnp.inf, units.centred(array, -1, ~out) * jnp.sqrt(count))


def reverse_kl(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike,
    temperature: ArrayLike = 1.0,
) -> jax.Array:
    """`kl` with the two exchanged: it seeks modes (MiniLLM, Gu et al. 2024).

    T^2 * sum_i q_i (log q_i - log p_i), q = softmax(student_logits / T),
    p = softmax(teacher_logits / T). The paper has T = 1; the factor T^2 is that of
    `kl`. The value is inf where the teacher masks a class that the student has.

    Args:
      student_logits: float [batch, ..., classes].
      teacher_logits: float [batch, ..., classes].
      temperature: T, positive.

    Returns: [batch, ...], in nats, at least 0.

    Raises: ValueError as `losses` says.

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
    `kl`. There is no factor T^2, as in the paper: the value is at most
    -w log w - (1 - w) log(1 - w), log 2 for w = 1/2. It is finite where one side masks
    a class. Over w it tends to KL(p || q) for w to 0, over 1 - w to KL(q || p) for w
    to 1.

    Args:
      student_logits: float [batch, ..., classes].
      teacher_logits: float [batch, ..., classes].
      temperature: T, positive.
      weight: w, in (0, 1), the teacher's share of the mixture.

    Returns: [batch, ...], in nats, at least 0.

    Raises: ValueError as `losses` says, and for a weight outside (0, 1).

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
    # Beyond, the smaller of p_i and q_i adds nothing.
    ratio = ratio.clip(-80, 80)
    m = w * p + (1 - w) * q
    of_teacher = softened.terms(p, m, -jnp.log1p((1 - w) * jnp.expm1(-ratio)))
    of_student = softened.terms(q, m, -jnp.log1p(w * jnp.expm1(ratio)))
    value = (w * of_teacher + (1 - w) * of_student).sum(-1)
    return jnp.where(out.all(-1) | teacher_out.all(-1), jnp.nan, value)


def _two_classes(logits, label, scale):
    """Logits [..., 2] of the label and of all other classes together, at T."""
    chosen = jnp.where(label, logits, -jnp.inf).max(-1)
    others = jnp.where(label, -jnp.inf, logits)
    soft, out = softened.logits(others, scale)
    largest = jax.lax.stop_gradient(softened.masked(others)[0].max(-1))
    together = largest + scale * jax.nn.logsumexp(soft, -1)
    return jnp.stack([chosen, jnp.where(out.all(-1), -jnp.inf, together)], -1)


def _from_correlation(q, p, axis, there):
    """1 - r along the axis, entry by entry: (u - v)^2 / 2, of unit vectors u and v.

    Where u or v is 0, r is 0: the entries share what their squares lack of 1.
    """
    u, v = units.centred(q, axis, there), units.centred(p, axis, there)
    nothing = [~(x != 0).any(axis, keepdims=True) for x in (u, v)]
    missing = sum(x.astype(q.dtype) for x in nothing)
    count = jnp.maximum(there.sum(axis, keepdims=True), 1).astype(q.dtype)
    return jnp.square(u - v) / 2 + jnp.where(there, missing / 2 / count, 0)


def _rows(logits, scale):
    """Softened predictions [examples, classes], 0 where masked; which are masked."""
    soft, out = softened.logits(logits.reshape(-1, logits.shape[-1]), scale)
    nothing = out.all(-1, keepdims=True)
    return jnp.where(nothing, jnp.nan, jax.nn.softmax(soft, -1)), out
