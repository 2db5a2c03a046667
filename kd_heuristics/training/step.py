"""The compiled part of training: many steps of one network, or of many, in one call."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax

from kd_heuristics import compiled, parallel
from kd_heuristics.training.state import TrainState

PyTree = Any
VALUE = "objective value"  # beside the metrics, whose names are the objective's


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Recipe:
    """What stays the same during a training; functions as `jax.tree_util.Partial`."""

    objective: Any
    update: Any
    seed: Any


@dataclasses.dataclass(frozen=True)
class Form:
    """What of a compiled call is static.

    Attributes:
      members: "one", or "map" or "vmap" over a leading axis of recipe and state.
      at_once: with "vmap", at most so many members at a time; None: all.
      micro_batches: parts of a batch whose gradients are averaged.
      mesh: the devices over which each batch is split; None: wherever the data lies.
    """

    members: str = "one"
    at_once: int | None = None
    micro_batches: int = 1
    mesh: jax.sharding.Mesh | None = None


@functools.partial(compiled.jit, static_argnames="form", donate_argnames="state")
def advance(recipe, state, batches, last_step, form):
    """Steps until `last_step`; the new state, and the sums of metrics and objective.

    The bounds are arguments, so that intervals of any length share one program.
    """
    if form.members == "one":
        return _run(recipe, state, batches, last_step, form)

    def member(leaves):
        recipe, params, batch_stats, opt_state = leaves
        # The step is every member's: left out of the axis, it stays a scalar loop
        # bound under vmap.
        alone = TrainState(state.step, params, batch_stats, opt_state)
        return _run(recipe, alone, batches, last_step, form)

    leaves = (recipe, state.params, state.batch_stats, state.opt_state)
    if form.members == "vmap" and form.at_once is None:
        state, sums = jax.vmap(member)(leaves)
    else:
        size = form.at_once if form.members == "vmap" else None
        state, sums = jax.lax.map(member, leaves, batch_size=size)
    return dataclasses.replace(state, step=state.step[0]), sums


def _run(recipe, state, batches, last_step, form):
    """The steps of one network."""

    def body(carry):
        state, values = _step(recipe, carry[0], batches, form)
        return state, jax.tree.map(jnp.add, carry[1], values)

    shapes = jax.eval_shape(lambda: _step(recipe, state, batches, form))[1]
    sums = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    return jax.lax.while_loop(
        lambda carry: carry[0].step < last_step, body, (state, sums)
    )


def _step(recipe, state, batches, form):
    key = jax.random.fold_in(jax.random.key(recipe.seed), state.step)
    batch = batches(recipe.seed, state.step)
    if form.mesh is not None:
        batch = parallel.constrain_batch(batch, form.mesh)
    gradient, batch_stats, values = _gradient(recipe.objective, state, batch, key, form)
    updates, opt_state = recipe.update(gradient, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    return TrainState(state.step + 1, params, batch_stats, opt_state), values


def _gradient(objective, state, batch, key, form):
    """Gradient, statistics and metrics of a batch, in one part or in several."""

    def part(batch_stats, batch, key):
        (value, (batch_stats, metrics)), gradient = jax.value_and_grad(
            objective, has_aux=True
        )(state.params, batch_stats, batch, key)
        return gradient, batch_stats, dict(metrics) | {VALUE: value}

    parts = form.micro_batches
    if parts == 1:
        return part(state.batch_stats, batch, key)

    def body(carry, index_and_key):
        index, key = index_and_key
        mine = _every(parts, index, batch)
        if form.mesh is not None:
            mine = parallel.constrain_batch(mine, form.mesh)
        gradient, batch_stats, values = part(carry[0], mine, key)
        return (batch_stats, jax.tree.map(jnp.add, carry[1], (gradient, values))), None

    first = jax.eval_shape(part, state.batch_stats, _every(parts, 0, batch), key)
    zeros = jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), (first[0], first[2])
    )
    (batch_stats, sums), _ = jax.lax.scan(
        body,
        (state.batch_stats, zeros),
        (jnp.arange(parts), jax.random.split(key, parts)),
    )
    gradient, values = jax.tree.map(lambda leaf: leaf / parts, sums)
    return gradient, batch_stats, values


def _every(parts, index, batch):
    """Part `index` of a batch: each device of a mesh holds its share of each part."""
    return jax.tree.map(
        lambda leaf: (
            leaf.reshape(-1, parts, *leaf.shape[1:])[:, index] if leaf.ndim else leaf
        ),
        batch,
    )
