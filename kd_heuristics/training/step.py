"""The compiled part of training: many steps of one or many networks in one call."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax

from kd_heuristics.pytrees import leaf_names
from kd_heuristics.runtime import compiled, parallel
from kd_heuristics.training.gradient import gradient_of
from kd_heuristics.training.metrics import SKIPPED, VALUE
from kd_heuristics.training.recipe import Recipe, StepOptions
from kd_heuristics.training.state import TrainState

PyTree = Any
FINITE = -1  # stands for "no non-finite step"


@functools.partial(compiled.jit, static_argnames="options", donate_argnames="state")
def advance(recipe, state, batches, last_step, options, sums=None):
    """Train until `last_step`.

    The bounds are arguments, so that intervals of any length share one program. `sums`
    holds the metric sums of earlier steps if this call finishes one that was cut short.

    Returns: (state, metric sums, first non-finite location). The location is int32 [2]
      per member: the first non-finite step, or FINITE for none, and its index in
      `places`.
    """
    if options.members == "one":
        return _run(recipe, state, batches, last_step, options, sums)

    def member(leaves):
        recipe, params, batch_stats, opt_state, sums = leaves
        # All members share the step; unbatched, it stays a scalar loop bound
        # under vmap.
        alone = TrainState(state.step, params, batch_stats, opt_state)
        return _run(recipe, alone, batches, last_step, options, sums)

    leaves = (recipe, state.params, state.batch_stats, state.opt_state, sums)
    if options.members == "vmap" and options.at_once is None:
        state, sums, wrong = jax.vmap(member)(leaves)
        if options.spread == "members" and options.mesh is not None:
            state = parallel.constrain_batch(state, options.mesh)
    else:
        size = options.at_once if options.members == "vmap" else None
        state, sums, wrong = jax.lax.map(member, leaves, batch_size=size)
    return dataclasses.replace(state, step=state.step[0]), sums, wrong


def trace(
    recipe: Recipe, state: TrainState, batches: Any, options: StepOptions
) -> None:
    """Trace a step of one network, so that the objective fails before training.

    `advance` does not trace it again.
    """
    if options.members != "one":
        own = (recipe, state.params, state.batch_stats, state.opt_state)
        everywhere = None
        if options.mesh is not None:
            everywhere = jax.sharding.NamedSharding(options.mesh, parallel.P())
        recipe, *own = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(
                leaf.shape[1:], leaf.dtype, sharding=everywhere
            ),
            own,
        )
        state = TrainState(state.step, *own)
    _step.eval_shape(recipe, state, batches, options=options)


def places(state: TrainState) -> list[str]:
    """Returns where a step may be non-finite, in words, indexed as in `advance`."""

    def names(tree):
        return [name or "value" for name in leaf_names.names(tree)]

    params = names(state.params)
    return [
        "the objective",
        *(f"the gradient of {name}" for name in params),
        *(f"the parameter {name}" for name in params),
        *(f"the statistic {name}" for name in names(state.batch_stats)),
    ]


def _run(recipe, state, batches, last_step, options, sums):
    """Run the steps of one network; see `advance`."""

    def body(carry):
        state, sums, wrong = carry
        now = state.step
        state, values, found = _step(recipe, state, batches, options)
        first = (wrong[0] == FINITE) & (found != FINITE)
        wrong = jnp.where(first, jnp.stack([now, found]), wrong)
        return state, jax.tree.map(jnp.add, sums, values), wrong

    shapes = _step.eval_shape(recipe, state, batches, options=options)[1]
    if sums is None:
        sums = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    else:
        sums = jax.tree.map(lambda a, b: jnp.asarray(a, b.dtype), sums, shapes)
    state, sums, wrong = jax.lax.while_loop(
        lambda carry: carry[0].step < last_step,
        body,
        (state, sums, jnp.full(2, FINITE, jnp.int32)),
    )
    if options.on_nonfinite == "raise":
        # One check per call suffices: a non-finite parameter stays non-finite.
        own = [*jax.tree.leaves(state.params), *jax.tree.leaves(state.batch_stats)]
        found = _first_nonfinite(own)
        at = 1 + len(jax.tree.leaves(state.params)) + found
        first = (wrong[0] == FINITE) & (found != FINITE)
        wrong = jnp.where(first, jnp.stack([state.step - 1, at]), wrong)
    return state, sums, wrong


def _first_nonfinite(leaves):
    """Index of the first leaf with an infinity or a NaN; FINITE where there is none."""
    bad = {
        index: ~jnp.isfinite(leaf).all()
        for index, leaf in enumerate(leaves)
        if jnp.issubdtype(leaf.dtype, jnp.inexact)
    }
    if not bad:
        return jnp.int32(FINITE)
    found = jnp.stack([*bad.values()])
    first = jnp.asarray([*bad], jnp.int32)[found.argmax()]
    return jnp.where(found.any(), first, FINITE)


# Jitted, so that `trace` and the loop trace it once.
@functools.partial(jax.jit, static_argnames="options", inline=True)
def _step(recipe, state, batches, options):
    """Train one step; returns the new state, values to sum and non-finite place."""
    key = jax.random.fold_in(jax.random.key(recipe.seed), state.step)
    batch = batches(recipe.seed, state.step)
    if options.batch_mesh is not None:
        batch = parallel.constrain_batch(batch, options.batch_mesh)
    rest = state.batch_stats, batch, key, options
    gradient, batch_stats, values = gradient_of(recipe.objective, state.params, *rest)

    def value_fn(params, obj_fn=None):
        # Optax's line searches reject extra arguments that value_fn does not take.
        del obj_fn
        found = gradient_of(recipe.objective, params, *rest, differentiate=False)
        return found[2][VALUE]

    updates, opt_state = recipe.update(
        gradient,
        state.opt_state,
        state.params,
        # Extra arguments of optax's line searches, plateaus, Polyak's steps and
        # Hutchinson curvature.
        value=values[VALUE],
        grad=gradient,
        value_fn=value_fn,
        obj_fn=value_fn,
    )
    opt_state = jax.tree.map(_as_before, state.opt_state, opt_state)
    params = optax.apply_updates(state.params, updates)
    new = TrainState(state.step + 1, params, batch_stats, opt_state)
    if options.on_nonfinite == "record":
        return new, values, jnp.int32(FINITE)
    wrong = _first_nonfinite([values[VALUE], *jax.tree.leaves(gradient)])
    if options.on_nonfinite == "skip":
        after = _first_nonfinite(jax.tree.leaves((params, batch_stats)))
        return *_unless((wrong != FINITE) | (after != FINITE), state, new, values), (
            jnp.int32(FINITE)
        )
    return new, values, wrong


def _as_before(old, new):
    """Cast `new` to the precision of `old`; a bound float32 rate may have raised it."""
    new = jnp.asarray(new)
    both = all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in (old, new))
    return new.astype(old.dtype) if both else new


def _unless(skipped, old, new, values):
    """Returns the new state; if skipped, the old one a step later and values of 0."""
    kept = jax.tree.map(lambda a, b: jnp.where(skipped, a, b), old, new)
    state = dataclasses.replace(kept, step=new.step)
    values = {name: jnp.where(skipped, 0, value) for name, value in values.items()}
    return state, values | {SKIPPED: skipped.astype(jnp.float32)}
