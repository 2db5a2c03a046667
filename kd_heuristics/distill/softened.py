"""Softened predictions with optional masks, and their divergence.

A logit of -inf masks its class. Divergences are sums of non-negative terms: the plain
sums lose all digits at T = 1000.
"""

import math

import jax
import jax.numpy as jnp

_LOWEST = -1e4  # softened: exp(_LOWEST) is 0 in float64 too


def masked(logits: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Replaces logits of -inf by the largest of their row; returns the mask too.

    Infinite values and derivatives would otherwise be multiplied by 0. A row with all
    classes masked becomes 0.
    """
    out = jnp.isneginf(logits)
    largest = jax.lax.stop_gradient(logits.max(-1, keepdims=True))
    return jnp.where(out, jnp.where(jnp.isneginf(largest), 0, largest), logits), out


def logits(values: jax.Array, temperature: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns (logits - their row's largest) / T, and the mask.

    Masked logits become so low that their probability is 0, yet finite: 0 times them
    is 0.
    """
    values, out = masked(values)
    # A softmax is invariant to this shift.
    from_largest = values - jax.lax.stop_gradient(values.max(-1, keepdims=True))
    return jnp.where(out, _LOWEST, from_largest / temperature), out


def ratios(
    student: jax.Array, teacher: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns the teacher's prediction p, the student's q, and log p_i - log q_i.

    Args:
      student: [..., classes], from `logits`.
      teacher: same shape.
    """
    student_sum = jax.nn.logsumexp(student, -1, keepdims=True)
    teacher_sum = jax.nn.logsumexp(teacher, -1, keepdims=True)
    p, q = jnp.exp(teacher - teacher_sum), jnp.exp(student - student_sum)
    ratio = (teacher - student) - (teacher_sum - student_sum)
    return p, q, ratio - jax.lax.stop_gradient(_common_error(p, q, ratio))


def terms(p: jax.Array, q: jax.Array, ratio: jax.Array) -> jax.Array:
    """Returns p_i (exp(-l_i) - 1 + l_i), l = ratio; their sum is KL(p || q).

    No term is negative. The sum equals that of p_i l_i, because p and q both sum to 1.
    """
    small = jnp.abs(ratio) < 0.5
    near = p * _exp_remainder(jnp.where(small, ratio, 0))
    far = p * (ratio - 1) + q
    return jnp.where(small, near, far)


def divergence(
    student_logits: jax.Array, teacher_logits: jax.Array, temperature: jax.Array
) -> jax.Array:
    """Returns T^2 * sum_i p_i (log p_i - log q_i); both logits have a gradient.

    It is inf if the student masks a class that the teacher does not, and NaN for a row
    with all classes masked.
    """
    student, out = logits(student_logits, temperature)
    teacher, teacher_out = logits(teacher_logits, temperature)
    p, q, ratio = ratios(student, teacher)
    total = jnp.square(temperature) * terms(p, q, ratio).sum(-1)
    total = jnp.where((out & (p > 0)).any(-1), jnp.inf, total)
    return jnp.where(out.all(-1) | teacher_out.all(-1), jnp.nan, total)


def _common_error(p: jax.Array, q: jax.Array, ratio: jax.Array) -> jax.Array:
    """Returns the rounding error that all log p_i - log q_i of a row share.

    It comes from the normalisers. sum_i p_i (exp(-l_i) - 1) is 0 for the true ratios,
    and exp(-e) - 1 if each is too large by e.
    """
    small = jnp.abs(ratio) < 0.5
    terms = jnp.where(small, p * jnp.expm1(-jnp.where(small, ratio, 0)), q - p)
    return -jnp.log1p(terms.sum(-1, keepdims=True))


def _exp_remainder(x: jax.Array) -> jax.Array:
    """Returns exp(-x) - 1 + x for |x| <= 1/2, by its series, without cancellation.

    The first omitted term is x^17 / 17!, below float64's rounding of x^2 / 2.
    """
    total = jnp.zeros_like(x)
    for power in range(16, 1, -1):
        total = total * -x + 1 / math.factorial(power)
    return total * jnp.square(x)
