"""One table of all schedules, measures and models, and what holds for each.

The details of each kind are tested beside it; this table says that none is left out,
and that every entry goes through jit, vmap and grad and keeps its types. Losses have
their own table, `tests/distill/test_table.py`; what is no loss of two networks is here.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_heuristics import distill, models, schedules, similarity
from kd_heuristics.runtime import nearest
from tests.selection import LARGE, some_long

RNG = np.random.RandomState(0)
LOGITS = RNG.normal(size=(2, 5, 7)).astype(np.float32)
MAPS = RNG.uniform(size=(2, 5, 4, 4, 3)).astype(np.float32)
ACTIVATIONS = RNG.normal(size=(2, 24, 4)).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Case:
    """A function of arrays, and arguments for it, [2, ...] of which two calls are.

    Attributes:
      call: `*arguments -> array`.
      arguments: float32, each with a leading axis of two.
      shape: of a result.
      bfloat16: whether arguments of that type are taken, and computed in float32.
    """

    call: Callable
    arguments: tuple
    shape: tuple[int, ...]
    bfloat16: bool = True


def rate(make):
    """A schedule as a function of its first value, traced, and of the count."""
    counts = np.float32([[0, 1, 5, 9], [2, 3, 11, 40]])
    return Case(
        lambda value, count: make(value)(count), (np.float32([0.1, 0.3]), counts), (4,)
    )


def measure(function):
    return Case(function, (ACTIVATIONS, ACTIVATIONS[::-1] ** 3), (), bfloat16=False)


def matrices(student, teacher):
    found = (distill.fsp_matrices(((x, x),)) for x in (student, teacher))
    return distill.fsp_distance(*found)


PARTS = {
    "fsp_distance": Case(matrices, (MAPS, MAPS[::-1]), (5,)),
    "masked_mean": Case(lambda x: distill.masked_mean(x, x > -1), (LOGITS,), ()),
}
SCHEDULES = {
    "sgdr": rate(lambda value: schedules.sgdr(value, 3, 2)),
    "cosine_decay": rate(lambda value: schedules.cosine_decay(value, 10)),
    "linear_decay": rate(lambda value: schedules.linear_decay(value, 10)),
    "step_decay": rate(lambda value: schedules.step_decay(value, [3, 6], 0.1)),
    "wsd": rate(lambda value: schedules.wsd(value, 10, cooldown_steps=4)),
    "cyclic": rate(lambda value: schedules.cyclic(value, 4)),
    "warmup": rate(
        lambda value: schedules.warmup(schedules.linear_decay(value, 10), 3)
    ),
    "per_epoch": rate(
        lambda value: schedules.per_epoch(schedules.linear_decay(value, 10), 2)
    ),
}
MEASURES = {
    name: measure(getattr(similarity, name))
    for name in ("svcca", "pwcca", "cka", "google_cca", "procrustes", "knn", "rsa")
} | {
    "cca": measure(lambda x, y: similarity.cca(x, y).mean()),
    "debiased_cka": measure(functools.partial(similarity.cka, debiased=True)),
}
STEPS = {"knn", "rsa"}  # of neighbours and ranks
CASES = PARTS | SCHEDULES | MEASURES
cases = pytest.mark.parametrize("name", CASES)


@functools.cache
def compiled(name):
    """Value, the same over a leading axis, and gradient, in one program."""
    case = CASES[name]

    def run(arguments, stacked):
        gradient = jax.grad(lambda own: case.call(*own).sum())(arguments)
        return case.call(*arguments), jax.vmap(case.call)(*stacked), gradient

    quick = {"xla_backend_optimization_level": 0}
    return jax.jit(run, compiler_options=quick)


def first(case, dtype=None):
    return tuple(jnp.asarray(array[0], dtype) for array in case.arguments)


@cases
def test_jit_vmap_and_grad(name):
    case = CASES[name]
    value, both, gradient = compiled(name)(first(case), case.arguments)
    assert value.shape == case.shape
    assert value.dtype == both.dtype == jnp.float32
    # Float32 sums in another order; roots of small eigenvalues lose half the digits.
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
    close(value, case.call(*first(case)))
    for index, own in enumerate(both):
        close(own, case.call(*(array[index] for array in case.arguments)))
    assert all(np.isfinite(leaf).all() for leaf in gradient)
    assert any(np.any(leaf != 0) for leaf in gradient) == (name not in STEPS)


@cases
def test_lower_precision_in_float32_out(name):
    case = CASES[name]
    if not case.bfloat16:
        with pytest.raises(ValueError, match="float32"):
            case.call(*first(case, jnp.int32))
        return
    shapes = [jax.ShapeDtypeStruct(a.shape[1:], jnp.bfloat16) for a in case.arguments]
    found = jax.eval_shape(case.call, *shapes)
    assert found.dtype == jnp.float32
    assert found.shape == case.shape


def test_the_table_leaves_none_out():
    helpers = {"linear_scaling", "sgdr_restarts"}  # a number, and a list of steps
    assert set(schedules.__all__) - helpers == set(SCHEDULES)
    with pytest.raises(ValueError, match="Valid:") as error:
        similarity.matrix({"a": ACTIVATIONS[0]}, {"a": ACTIVATIONS[0]}, measure="xcca")
    listed = str(error.value).partition("Valid: ")[2].split(", ")
    assert set(listed) == set(MEASURES)


@pytest.mark.parametrize("name", some_long(models.names(), LARGE.fullmatch))
def test_models_by_their_shapes(name):
    """At full size, under jit, vmap and grad; nothing is computed."""
    network: Any = models.create(name, 10)
    side = 64 if name.endswith("imagenet") else 32
    images = jax.ShapeDtypeStruct((2, side, side, 3), jnp.float32)
    key = jax.random.key(0)
    variables = jax.eval_shape(network.init, key, images)
    logits, stats = jax.eval_shape(jax.jit(network.train), variables, images, key)
    assert (logits.shape, logits.dtype) == ((2, 10), jnp.float32)
    own = variables.get("batch_stats", {})
    assert jax.tree.structure(stats) == jax.tree.structure(own)
    names = list(jax.eval_shape(network.features, variables, images))
    assert names == sorted(names)

    def total(variables, images):
        return network.apply(variables, images).sum()

    two = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((2, *leaf.shape), leaf.dtype), variables
    )
    gradients = jax.vmap(jax.value_and_grad(total), (0, None))
    values, found = jax.eval_shape(gradients, two, images)
    assert values.shape == (2,)
    assert jax.tree.map(jnp.shape, found) == jax.tree.map(jnp.shape, two)


def test_a_mistyped_name_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'resnet20'"):
        models.create("resnet_20", 10)
    assert nearest.nearest("sgrd", SCHEDULES) == "sgdr"
