"""Hints: a student's middle layer learns to predict the teacher's (FitNets).

Romero et al. 2015, "FitNets: Hints for Thin Deep Nets". Two stages: first the student
up to its guided layer, with a regressor, learns the teacher's hint layer (`hint_loss`,
eq. 3); then the whole student learns from labels and softened predictions
(`fitnet_loss`, eq. 4), with a weight annealed from 4 to 1 at temperature 3.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from kd_heuristics.distill import checks, losses
from kd_heuristics.runtime import nearest


def hint_loss(
    student: ArrayLike, teacher: ArrayLike, *, reduction: str = "sum"
) -> jax.Array:
    """Half the squared distance of activations (Romero et al. 2015, eq. 3).

    1/2 * sum over units of (teacher - student)^2, one value an example.

    Args:
      student: float [batch, ...]: what the regressor makes of the guided layer, or
        that layer itself where the shapes agree.
      teacher: of the same shape, the hint layer; it gets no gradient.
      reduction: over the units: "sum", as the paper; "mean", as RepDistiller and others
        (without the half they also leave out).

    Returns: [batch], in at least float32.

    Raises: ValueError for shapes that differ or have no axis beside the batch's, values
      that are no floats, and an unknown reduction.

    >>> hint_loss(jnp.zeros((1, 2, 2, 1)), jnp.full((1, 2, 2, 1), 3.0))
    Array([18.], dtype=float32)
    """
    nearest.choose(reduction, ("sum", "mean"), "reduction")
    student, teacher = checks.alike(
        student, teacher, "hints", "put `regressor` behind the guided layer"
    )
    square = jnp.square(teacher - student)
    axes = tuple(range(1, square.ndim))
    return square.sum(axes) / 2 if reduction == "sum" else square.mean(axes)


def fitnet_loss(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike,
    labels: ArrayLike,
    weight: ArrayLike,
    temperature: ArrayLike = 3.0,
) -> jax.Array:
    """The second stage's loss (Romero et al. 2015, eq. 4), with no factor T squared.

    hard_labels(student_logits, labels)
    + weight * soft_cross_entropy(student_logits, teacher_logits, temperature)

    Args:
      student_logits: float [batch, classes].
      teacher_logits: float [batch, classes].
      labels: integers [batch], or shares of the classes, as in `losses.hard_labels`.
      weight: lambda, at least 0, of `annealed_weight`.
      temperature: tau, positive; 3 in the paper.

    Returns: [batch].

    Raises: ValueError as the losses it is made of.

    >>> logits = jnp.zeros((1, 2))
    >>> round(float(fitnet_loss(logits, logits, jnp.array([0]), 4.0)[0]), 4)  # 5 log 2
    3.4657
    """
    checks.weight("weight", weight)
    soft = losses.soft_cross_entropy(student_logits, teacher_logits, temperature)
    return losses.hard_labels(student_logits, labels) + checks.weighted(weight, soft)


def annealed_weight(
    num_steps: int, start: float = 4.0, end: float = 1.0
) -> jax.tree_util.Partial:
    """The second stage's lambda: from 4 to 1 on a line (Romero et al. 2015, sec. 3.1).

    Args:
      num_steps: steps of the stage; the last of them, num_steps - 1, has `end`.
      start: at step 0.
      end: from the last step on.

    Returns: `step -> weight`; a partial, so that other numbers share its programs.

    Raises: ValueError for fewer than two steps.

    >>> weight = annealed_weight(5)
    >>> [float(weight(step)) for step in range(6)]
    [4.0, 3.25, 2.5, 1.75, 1.0, 1.0]
    """
    if num_steps < 2:
        raise ValueError(
            f"num_steps must be at least 2, got {num_steps}; for a constant weight "
            "give a function that returns it"
        )
    return jax.tree_util.Partial(_on_a_line, start, end, num_steps - 1)


def _on_a_line(start, end, last, step):
    done = jnp.minimum(jnp.asarray(step, jnp.float32) / last, 1)
    return (1 - done) * start + done * end
