"""Properties that every pair of logits must have, drawn at random."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from kd_heuristics import distill

SHAPE = (3, 4)
LOGITS = arrays.arrays(np.float32, SHAPE, elements=st.floats(-30, 30, width=32))
TEMPERATURES = st.sampled_from([0.5, 1.0, 4.0, 20.0])
drawn = settings(derandomize=True, deadline=None, max_examples=100)


@jax.jit
def losses(student, teacher, temperature):
    return {
        "kl": distill.kl(student, teacher, temperature),
        "reverse": distill.kl(teacher, student, temperature),
        "cross": distill.soft_cross_entropy(student, teacher, temperature),
        "entropy": distill.soft_cross_entropy(teacher, teacher, temperature),
        "own": distill.kl(teacher, teacher, temperature),
        "l2": distill.l2(student, teacher),
        "matching": distill.logit_matching(student, teacher),
    }


@drawn
@given(LOGITS, LOGITS, TEMPERATURES)
def test_signs_zeros_and_gibbs(student, teacher, temperature):
    found = losses(student, teacher, jnp.float32(temperature))
    for name in ("kl", "reverse", "l2", "matching"):
        assert (np.asarray(found[name]) >= 0).all(), name
    np.testing.assert_allclose(found["own"], 0, atol=1e-9)
    # The cross-entropy is the teacher's entropy plus kl over T squared.
    difference = np.asarray(found["cross"] - found["entropy"])
    # float32 beside terms of up to 60 / T
    np.testing.assert_allclose(
        difference, found["kl"] / temperature**2, rtol=1e-4, atol=2e-5 * 60
    )


@drawn
@given(LOGITS, LOGITS, TEMPERATURES, st.floats(-10, 10, width=32))
def test_a_constant_added_to_an_example_changes_no_divergence(
    student, teacher, temperature, constant
):
    plain, moved = (
        losses(student + shift, teacher, jnp.float32(temperature))
        for shift in (np.float32(0), np.float32(constant))
    )
    for name in ("kl", "reverse", "matching"):
        np.testing.assert_allclose(plain[name], moved[name], rtol=2e-3, atol=2e-3)


@drawn
@given(LOGITS, LOGITS, st.permutations(range(SHAPE[1])))
def test_the_order_of_classes_does_not_matter(student, teacher, order):
    plain = losses(student, teacher, jnp.float32(2))
    turned = losses(student[:, order], teacher[:, order], jnp.float32(2))
    for name, values in plain.items():
        np.testing.assert_allclose(turned[name], values, rtol=1e-4, atol=1e-4)
