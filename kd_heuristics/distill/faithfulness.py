"""How faithful a student is to its teacher (Stanton et al. 2021), and its calibration.

Stanton et al., "Does Knowledge Distillation Really Work?": a student may generalise
well and not match its teacher, even on the images that it was taught with. So measure
fidelity on training and on test images, beside accuracy.
"""

from typing import SupportsIndex

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from kd_heuristics.distill import checks, losses
from kd_heuristics.runtime import values


def fidelity(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike,
    labels: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    bins: SupportsIndex = 15,
) -> dict[str, jax.Array]:
    """Measures how alike two networks predict on a set, and how well each does.

    Args:
      student_logits: float [examples, ..., classes], of the whole set.
      teacher_logits: float, of the same shape.
      labels: integers [examples, ...].
      mask: bool [examples, ...], which positions count; `None` counts all.
      bins: of `calibration_error`.

    Returns: scalars, means over the set: "agreement", the share of equal first choices;
      "divergence", KL(teacher || student) at temperature 1 in nats; "accuracy" and
      "teacher_accuracy"; "calibration_error" and "teacher_calibration_error".

    Raises: ValueError as `losses.kl`, `calibration_error` and `losses.masked_mean`.

    >>> student, teacher = jnp.array([[2.0, 0.0], [0.0, 1.0]]), jnp.array([[1.0, 0.0]])
    >>> found = fidelity(student, teacher.repeat(2, 0), jnp.array([0, 1]))
    >>> [float(found[name]) for name in ("agreement", "accuracy", "teacher_accuracy")]
    [0.5, 1.0, 0.5]
    """
    student, teacher = checks.both_logits(student_logits, teacher_logits)
    labels = checks.class_labels(labels, student.shape[:-1])
    kept = jnp.ones(labels.shape, bool) if mask is None else jnp.asarray(mask)
    each = {
        "agreement": losses.agreement(student, teacher),
        "divergence": losses.kl(student, teacher),
        "accuracy": _right(student, labels),
        "teacher_accuracy": _right(teacher, labels),
    }
    found = {name: losses.masked_mean(value, kept) for name, value in each.items()}
    for name, logits in (("", student), ("teacher_", teacher)):
        error = calibration_error(logits, labels, mask=kept, bins=bins)
        found[f"{name}calibration_error"] = error
    return found


def calibration_error(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    bins: SupportsIndex = 15,
) -> jax.Array:
    """Expected calibration error (Guo et al. 2017, eq. 3).

    sum over m of |B_m| / n * |accuracy(B_m) - confidence(B_m)|

    B_m are the examples whose confidence, the largest probability, lies in
    ((m - 1) / bins, m / bins].

    Args:
      logits: float [examples, ..., classes], of the whole set: errors of its batches do
        not average to it.
      labels: integers [examples, ...].
      mask: bool [examples, ...], which positions count; `None` counts all.
      bins: at least 1; 15 in the paper.

    Returns: a scalar in [0, 1]; 0 for confidences that are right as often as they say.

    Raises: ValueError for other shapes or types, a known mask that is false everywhere,
      or no bin.

    >>> logits = jnp.log(jnp.array([[0.75, 0.25]] * 4))
    >>> half_right = jnp.array([0, 0, 1, 1])
    >>> round(float(calibration_error(logits, half_right)), 6)
    0.25
    """
    gaps = calibration_gaps(logits, labels, bins)
    kept = jnp.ones(gaps.shape[:-1], bool) if mask is None else jnp.asarray(mask)
    means = [losses.masked_mean(gap, kept) for gap in jnp.moveaxis(gaps, -1, 0)]
    return jnp.abs(jnp.stack(means)).sum()


def calibration_gaps(
    logits: ArrayLike, labels: ArrayLike, bins: SupportsIndex = 15
) -> jax.Array:
    """Each example's part of the calibration error, by bin, for sets in parts.

    (right - confidence) in the example's bin, 0 in the others. The sum over bins of the
    absolute values of their means over a set is its `calibration_error`.

    Args:
      logits: float [batch, ..., classes].
      labels: integers [batch, ...].
      bins: at least 1.

    Returns: [batch, ..., bins].

    Raises: ValueError for other shapes or types, or no bin.

    >>> gaps = calibration_gaps(jnp.zeros((1, 2)), jnp.array([0]), 4)
    >>> gaps.tolist()  # confidence 1/2, in (1/4, 1/2]
    [[0.0, 0.5, 0.0, 0.0]]
    """
    array = checks.logits("logits", logits)
    labels = checks.class_labels(labels, array.shape[:-1])
    count = values.integer("bins", bins, 1, remedy="15 in the paper")
    confidence = jax.nn.softmax(array, -1).max(-1)
    # A row of NaN has no bin, and stays NaN in each.
    place = jnp.ceil(confidence * count).clip(1, count) - 1
    here = jax.nn.one_hot(place.astype(jnp.int32), count, dtype=array.dtype)
    gap = _right(array, labels) - confidence
    return here * gap[..., None]


def _right(logits, labels):
    return (logits.argmax(-1) == labels).astype(logits.dtype)
