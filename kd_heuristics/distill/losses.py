"""Losses between the logits of a student and those of a teacher, or labels.

What holds for all of them:

- One value an example, [batch]: the caller reduces it. Student before teacher,
  prediction before target. Logits may have more axes, [batch, ..., classes], such as
  those of tokens: each position then has its value, [batch, ...].
- Computed and returned in at least float32, whatever the logits' type.
- No gradient reaches the teacher.
- Temperatures and weights are numbers or traced scalars.
- A logit of -inf masks its class: the class has probability 0, and 0 times the -inf of
  its logarithm is 0. Where the student masks a class that the teacher or the label has,
  the loss is inf, and no gradient is NaN. A row with all classes masked is NaN.
- ValueError, before any computing: shapes that differ, logits that are not
  [batch, ..., classes], a temperature that is not positive, a negative weight.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from kd_heuristics.distill import checks, softened
from kd_heuristics.runtime import values


def kl(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike,
    temperature: ArrayLike = 1.0,
) -> jax.Array:
    """Kullback-Leibler divergence of softened predictions, times T squared.

    T^2 * sum_i p_i (log p_i - log q_i), p = softmax(teacher_logits / T),
    q = softmax(student_logits / T), T = temperature; in nats.

    The factor T^2 keeps the size of the gradient, T (q - p), from falling with the
    temperature (Hinton et al. 2015, sec. 2). The value is summed from terms that are
    not negative, p_i (exp(-l_i) - 1 + l_i) with l_i = log p_i - log q_i, which is the
    same sum because p and q both add up to 1; the plain form loses at T = 1000 all
    digits. What is left is the rounding of the logits' differences, in float32 an error
    e of about 1e-7 times the spread of logits / T in each l_i, and so a relative error
    of about 2 e / |l_i|: 0.004 at most was measured for student = teacher (1 +- 1e-4),
    0.3 for (1 +- 1e-6). Values below 1e-37 T^2 may vanish altogether.

    Args:
      student_logits: float [batch, ..., classes].
      teacher_logits: float [batch, ..., classes].
      temperature: T, positive.

    Returns: [batch], at least 0.

    Raises: ValueError as the module says.

    >>> student, teacher = jnp.array([[0.0, 0.0]]), jnp.array([[0.0, jnp.log(3.0)]])
    >>> round(float(kl(student, teacher)[0]), 4)  # 1/4 log(1/2) + 3/4 log(3/2)
    0.1308
    """
    student, teacher, scale = checks.softened_logits(
        student_logits, teacher_logits, temperature
    )
    return softened.divergence(student, teacher, scale)


def soft_cross_entropy(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike,
    temperature: ArrayLike = 1.0,
) -> jax.Array:
    """Cross-entropy of softened predictions, with no factor T squared.

    - sum_i p_i log q_i, with p, q and T as in `kl`; in nats. The term H(P_T, P_S) of
    Romero et al. 2015, eq. 4. It is kl / T^2 and the teacher's entropy, which has no
    gradient.

    Args:
      student_logits: float [batch, ..., classes].
      teacher_logits: float [batch, ..., classes].
      temperature: T, positive.

    Returns: [batch].

    Raises: ValueError as the module says.

    >>> student, teacher = jnp.zeros((1, 2)), jnp.array([[0.0, 5.0]])
    >>> round(float(soft_cross_entropy(student, teacher, 3.0)[0]), 4)  # log 2
    0.6931
    """
    student, teacher, scale = checks.softened_logits(
        student_logits, teacher_logits, temperature
    )
    student, out = softened.logits(student, scale)
    teacher, teacher_out = softened.logits(teacher, scale)
    p = jax.nn.softmax(teacher, -1)
    log_q = jax.nn.log_softmax(student, -1)
    infinite = (out & (p > 0)).any(-1)
    value = jnp.where(infinite, jnp.inf, -(p * log_q).sum(-1))
    return jnp.where(out.all(-1) | teacher_out.all(-1), jnp.nan, value)


def hinton(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike,
    labels: ArrayLike,
    temperature: ArrayLike = 1.0,
    *,
    soft_weight: ArrayLike = 1.0,
    hard_weight: ArrayLike = 0.5,
) -> jax.Array:
    """Soft targets and labels together (Hinton et al. 2015, sec. 2).

    soft_weight * kl(student_logits, teacher_logits, temperature)
    + hard_weight * hard_labels(student_logits, labels)

    The factor T^2 is always there: a term's share does not change with the
    temperature, nor when the other term is left out.

    Args:
      student_logits: float [batch, ..., classes].
      teacher_logits: float [batch, ..., classes].
      labels: integers [batch, ...], or shares of the classes, as in `hard_labels`.
      temperature: of the soft term, positive; the hard one is at 1.
      soft_weight: at least 0.
      hard_weight: at least 0; 0.5 is the paper's choice for speech (sec. 4.1).

    Returns: [batch].

    Raises: ValueError as the module says.

    >>> same = jnp.array([[0.0, 0.0]])
    >>> round(float(hinton(same, same, jnp.array([1]), 4.0)[0]), 4)  # 0.5 log 2
    0.3466
    """
    checks.weight("soft_weight", soft_weight)
    checks.weight("hard_weight", hard_weight)
    hard = hard_labels(student_logits, labels)
    soft = kl(student_logits, teacher_logits, temperature)
    return checks.weighted(soft_weight, soft) + checks.weighted(hard_weight, hard)


def logit_matching(
    student_logits: ArrayLike, teacher_logits: ArrayLike, *, centred: bool = True
) -> jax.Array:
    """Squared error of logits: what `kl` becomes at high temperature.

    1 / (2 C) * sum_i (d_i - mean_j d_j)^2, d = student_logits - teacher_logits, C
    classes (Hinton et al. 2015, sec. 2.1). Centred, it is the limit of `kl` for
    T -> infinity, and like it does not see a constant added to all logits. Classes that
    both mask are left out, and are not counted in C; where one of them masks a class,
    the value is inf.

    Args:
      student_logits: float [batch, ..., classes].
      teacher_logits: float [batch, ..., classes].
      centred: whether the mean is taken off; without, the logits' absolute values
        count too (Ba and Caruana 2014, up to the factor 1 / C).

    Returns: [batch].

    Raises: ValueError as the module says.

    >>> logit_matching(jnp.array([[1.0, 3.0]]), jnp.array([[0.0, 0.0]]))
    Array([0.5], dtype=float32)
    """
    student, teacher = checks.both_logits(student_logits, teacher_logits)
    difference, left, differ = _unmasked_difference(student, teacher)
    if centred:
        difference = difference - difference.mean(-1, keepdims=True, where=left)
    value = jnp.square(difference).mean(-1, where=left) / 2
    return jnp.where(differ.any(-1), jnp.inf, value)


def l2(student: ArrayLike, teacher: ArrayLike) -> jax.Array:
    """Squared Euclidean distance of two outputs of any shape.

    sum over all axes but the first of (student - teacher)^2; entries that are -inf in
    both are left out.

    Args:
      student: float [batch, ...]: logits, or activations.
      teacher: of the same shape.

    Returns: [batch].

    Raises: ValueError as the module says.

    >>> l2(jnp.array([[1.0, 3.0]]), jnp.array([[0.0, 0.0]]))
    Array([10.], dtype=float32)
    """
    student, teacher = checks.alike(
        student, teacher, "outputs", "compare layers of equal shape, or use a regressor"
    )
    difference, left, differ = _unmasked_difference(student, teacher)
    axes = tuple(range(1, student.ndim))
    value = jnp.square(difference).sum(axes, where=left)
    return jnp.where(differ.any(axes), jnp.inf, value)


def hard_labels(
    student_logits: ArrayLike, labels: ArrayLike, smoothing: ArrayLike = 0.0
) -> jax.Array:
    """Softmax cross-entropy with labels, smoothed towards all classes.

    - sum_i y_i log q_i, q = softmax(student_logits),
    y = (1 - smoothing) labels + smoothing / C with C classes, integer labels as one-hot
    rows (Szegedy et al. 2016, sec. 7). A share s given to the C - 1 wrong classes alone
    is smoothing = s C / (C - 1). Masked classes get no share, and are not counted in C.

    Args:
      student_logits: float [batch, ..., classes].
      labels: integers [batch, ...] in [0, classes), or the classes' shares of each
        label, float [batch, ..., classes], as mixup makes them (`data.views.mix` of
        one-hot rows). NaN is returned for a traced integer outside the classes, and for
        traced shares that are negative or do not add up to 1. To learn the teacher's
        decisions give `teacher_logits.argmax(-1)`.
      smoothing: in [0, 1).

    Returns: [batch], in nats.

    Raises: ValueError as the module says.

    >>> round(float(hard_labels(jnp.zeros((1, 4)), jnp.array([0]), 0.1)[0]), 4)
    1.3863
    """
    logits = checks.logits("student logits", student_logits)
    soft = jnp.issubdtype(jnp.result_type(labels), jnp.floating)
    check = checks.soft_labels if soft else checks.class_labels
    found = check(labels, logits.shape if soft else logits.shape[:-1])
    values.require_share("smoothing", smoothing, "0 smooths nothing")
    logits, out = softened.masked(logits)
    log_q = jax.nn.log_softmax(logits, -1, where=~out)
    own, valid = (_of_shares if soft else _of_classes)(log_q, found)
    share = jnp.asarray(smoothing, logits.dtype)
    loss = -((1 - share) * own + share * log_q.mean(-1, where=~out))
    return jnp.where(valid, loss, jnp.nan)


def _of_classes(log_q, labels):
    """Each label's log-probability, and whether it is a class."""
    inside = (labels >= 0) & (labels < log_q.shape[-1])
    chosen = jnp.where(inside, labels, 0)[..., None]
    return jnp.take_along_axis(log_q, chosen, -1)[..., 0], inside


def _of_shares(log_q, found):
    """The labels' mean log-probability; a masked class without a share adds 0."""
    shares, valid = found
    shares = shares.astype(log_q.dtype)
    return (shares * jnp.where(shares > 0, log_q, 0)).sum(-1), valid


def masked_mean(losses: ArrayLike, mask: ArrayLike) -> jax.Array:
    """Mean of a loss over the positions that count, such as tokens without padding.

    Values outside the mask do not count, even if they are infinite or NaN.

    Args:
      losses: float [batch, ...], of a loss here.
      mask: bool, of the same shape; at least one is true.

    Returns: a scalar, float32 or wider; NaN if a traced mask has no true entry.

    Raises: ValueError for another shape or type, or a known mask that is false
      everywhere.

    >>> float(masked_mean(jnp.array([[1.0, jnp.nan, 3.0]]), jnp.array([[1, 0, 1]]) > 0))
    2.0
    """
    found, kept = jnp.asarray(losses), jnp.asarray(mask)
    if kept.dtype != bool or kept.shape != found.shape:
        raise ValueError(
            f"mask is {kept.dtype}{list(kept.shape)}; wanted bool "
            f"{list(found.shape)}, one for each value of the loss: for 0 and 1 take "
            "mask > 0"
        )
    if not isinstance(kept, jax.core.Tracer) and not kept.any():
        raise ValueError(
            f"mask {list(kept.shape)} is false everywhere, so there is no mean; leave "
            "out batches without an example"
        )
    return found.mean(where=kept, dtype=jnp.promote_types(found.dtype, jnp.float32))


def agreement(
    student_logits: ArrayLike, teacher_logits: ArrayLike, k: int = 1
) -> jax.Array:
    """Whether the teacher's first choice is among the student's first k.

    A metric: it has no gradient. Equal logits count in the order of the classes.

    Args:
      student_logits: float [batch, ..., classes].
      teacher_logits: float [batch, ..., classes].
      k: in [1, classes].

    Returns: [batch], 0 or 1.

    Raises: ValueError as the module says, and where k is out of its range.

    >>> agreement(jnp.array([[3.0, 2.0, 1.0]]), jnp.array([[0.0, 1.0, 0.0]]), k=2)
    Array([1.], dtype=float32)
    """
    student, teacher = checks.both_logits(student_logits, teacher_logits)
    if not 1 <= k <= student.shape[-1]:
        raise ValueError(
            f"k must lie in [1, {student.shape[-1]}], the number of classes, got {k}"
        )
    chosen = jax.lax.top_k(jax.lax.stop_gradient(student), k)[1]
    found = chosen == teacher.argmax(-1, keepdims=True)
    return found.any(-1).astype(student.dtype)


def _unmasked_difference(student, teacher):
    """Student - teacher, 0 at -inf; where it counts; where only one of them is -inf."""
    out, teacher_out = jnp.isneginf(student), jnp.isneginf(teacher)
    masked = out | teacher_out
    difference = jnp.where(masked, 0, student) - jnp.where(masked, 0, teacher)
    return difference, ~(out & teacher_out), out != teacher_out
