"""What holds for every loss: one table through jit, vmap, grad, types, extremes."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_heuristics import distill
from tests.distill import oracles
from tests.distill.nets import quick
from tests.distill.oracles import BATCH, LABELS
from tests.modes import enable_x64


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """A loss as a function of student and teacher, and arguments of a seed."""

    loss: Callable[[Any, Any], jax.Array]
    make: Callable[[int], Any] = oracles.logits
    zero_at_teacher: bool = True
    relational: bool = False  # an example's value depends on its batch
    largest: float = 1e4


@functools.cache
def maps(seed):
    return oracles.pairs(seed)[0][0]


LABELLED = {"labels": LABELS, "temperature": 3.0}
LOSSES = {
    "kl": Case(loss=functools.partial(distill.kl, temperature=3.0)),
    "kl, cold": Case(loss=functools.partial(distill.kl, temperature=1e-2)),
    "kl, hot": Case(loss=functools.partial(distill.kl, temperature=1e3)),
    "soft_cross_entropy": Case(
        loss=functools.partial(distill.soft_cross_entropy, temperature=3.0),
        zero_at_teacher=False,
    ),
    "hinton": Case(
        loss=functools.partial(distill.hinton, **LABELLED), zero_at_teacher=False
    ),
    "logit_matching": Case(loss=distill.logit_matching),
    "l2": Case(loss=distill.l2),
    "hard_labels": Case(
        loss=lambda student, _: distill.hard_labels(student, LABELS, 0.1),
        zero_at_teacher=False,
    ),
    "hint_loss": Case(loss=distill.hint_loss, make=maps),
    "fitnet_loss": Case(
        loss=functools.partial(distill.fitnet_loss, labels=LABELS, weight=4.0),
        zero_at_teacher=False,
    ),
    "fsp_loss": Case(loss=distill.fsp_loss, make=oracles.pairs),
    "dkd": Case(loss=functools.partial(distill.dkd, labels=LABELS)),
    "dist": Case(loss=distill.dist, relational=True),
    "reverse_kl": Case(loss=distill.reverse_kl),
    "js": Case(loss=distill.js),
    "kl, standardized": Case(
        loss=lambda s, t: distill.kl(*map(distill.standardize, (s, t)), 2.0)
    ),
    "attention": Case(loss=distill.attention, make=maps),
    "rkd": Case(loss=distill.rkd, relational=True),
    "fsp_loss, norms": Case(
        loss=functools.partial(distill.fsp_loss, reduction="column_norms", pool="mean"),
        make=oracles.pairs,
    ),
}

table = pytest.mark.parametrize("name", LOSSES)


def cast(tree, dtype):
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), tree)


def total(case):
    return lambda student, teacher: case.loss(student, teacher).sum()


@functools.cache
def compiled(name):
    """Value and both gradients, in one program."""
    case = LOSSES[name]

    def run(student, teacher):
        gradients = jax.grad(total(case), argnums=(0, 1))(student, teacher)
        return case.loss(student, teacher), *gradients

    return quick(run)


@table
def test_one_value_an_example_and_no_gradient_for_the_teacher(name):
    case = LOSSES[name]
    student, teacher = case.make(0), case.make(1)
    found, gradient, to_teacher = compiled(name)(student, teacher)
    assert found.shape == (BATCH,)
    assert found.dtype == jnp.float32
    assert all(np.any(leaf != 0) for leaf in jax.tree.leaves(gradient))
    assert not any(np.any(leaf != 0) for leaf in jax.tree.leaves(to_teacher))


@table
def test_an_example_does_not_see_the_others(name):
    case = LOSSES[name]
    student, teacher = case.make(0), case.make(1)
    found = compiled(name)(student, teacher)[0]
    # The second example anew: the others' values stay.
    changed = jax.tree.map(
        lambda leaf, other: np.concatenate([leaf[:1], other[1:2], leaf[2:]]),
        student,
        case.make(2),
    )
    after = compiled(name)(changed, teacher)[0]
    differs = (np.asarray(found) != after).tolist()
    assert differs == [case.relational, True, *[case.relational] * 3]


@table
def test_a_population_is_vmapped(name):
    case = LOSSES[name]
    population = [case.make(seed) for seed in (0, 2, 3)]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *population)
    teacher = case.make(1)
    found = quick(jax.vmap(case.loss, (0, None)))(stacked, teacher)
    expected = np.stack([compiled(name)(s, teacher)[0] for s in population])
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@table
def test_bfloat16_is_computed_in_float32(name):
    case = LOSSES[name]
    student, teacher = (cast(case.make(seed), jnp.bfloat16) for seed in (0, 1))
    found, gradient, _ = compiled(name)(student, teacher)
    assert found.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(gradient)} == {jnp.dtype("bfloat16")}
    exact = compiled(name)(*(cast(tree, jnp.float32) for tree in (student, teacher)))[0]
    np.testing.assert_allclose(found, exact, rtol=1e-5, atol=1e-6)


@table
def test_gradient_in_float64(name):
    case = LOSSES[name]
    with enable_x64(True):
        student, teacher, direction = (
            cast(case.make(seed), jnp.float64) for seed in (0, 1, 2)
        )
        found, gradient, _ = compiled(name)(student, teacher)
        assert found.dtype == jnp.float64

        def moved(step):
            here = jax.tree.map(lambda x, d: x + step * d, student, direction)
            return float(compiled(name)(here, teacher)[0].sum())

        # Central differences: error of order 1e-10 in a term of order 1.
        step = 1e-5
        slope = (moved(step) - moved(-step)) / (2 * step)
        along = sum(
            float((g * d).sum())
            for g, d in zip(*map(jax.tree.leaves, (gradient, direction)), strict=True)
        )
        np.testing.assert_allclose(along, slope, rtol=1e-6)


@table
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_extremes_stay_finite(name, dtype):
    case = LOSSES[name]
    zeros = jax.tree.map(np.zeros_like, case.make(0))
    large = [
        jax.tree.map(lambda leaf: np.sign(leaf) * case.largest, case.make(seed))
        for seed in (0, 1)
    ]
    for student, teacher in ((zeros, zeros), large, large[::-1], (zeros, large[0])):
        leaves = jax.tree.leaves(
            compiled(name)(cast(student, dtype), cast(teacher, dtype))
        )
        assert all(np.isfinite(np.float32(leaf)).all() for leaf in leaves)


@table
def test_distances_vanish_where_the_student_is_the_teacher(name):
    case = LOSSES[name]
    teacher = case.make(1)
    found, gradient, _ = compiled(name)(teacher, teacher)
    if case.zero_at_teacher:
        # For kl, squared roundings of the log ratios, and T times the roundings.
        assert np.all((found >= 0) & (found < 1e-13))
        assert all(np.abs(leaf).max() < 1e-4 for leaf in jax.tree.leaves(gradient))
    else:
        assert found.all()


def test_the_table_leaves_none_out():
    losses = {
        name
        for name in distill.__all__
        if getattr(getattr(distill, name), "__module__", "").endswith(
            (".losses", ".hints")
        )
    }
    # A share, a number and a mean: no losses.
    others = {"agreement", "annealed_weight", "masked_mean"}
    assert losses - others <= set(LOSSES)
