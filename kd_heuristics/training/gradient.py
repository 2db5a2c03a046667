"""Gradient, statistics and metrics of an objective on one batch, whole or in parts."""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from kd_heuristics import data
from kd_heuristics.runtime import parallel
from kd_heuristics.runtime.precision import common_type
from kd_heuristics.training.metrics import VALUE, check_names
from kd_heuristics.training.objective_output import checked, to_be_summed


# Jitted, so that the shape evaluation and the step share one trace of the objective.
@functools.partial(jax.jit, static_argnames=("options", "differentiate"), inline=True)
def gradient_of(
    objective, params, batch_stats, batch, key, options, differentiate=True
):
    """Returns gradient, statistics and summable metrics of a batch.

    Args:
      objective: see `fit`.
      params: parameters at which the objective is evaluated.
      batch_stats: running statistics before the batch.
      batch: arrays with the examples along axis 0.
      key: random key of the batch.
      options: `StepOptions`, for the parts of a batch.
      differentiate: `False` returns `()` in place of the gradient, at no cost.
    """
    given = objective, params, batch_stats, batch, key

    def part(**changed):
        return functools.partial(
            gradient_of,
            options=dataclasses.replace(options, **changed),
            differentiate=differentiate,
        )

    if options.micro_batches > 1:
        return _over_micro_batches(part(micro_batches=1), options, *given)
    if options.per_device:
        return _per_device(part(mesh=None), options.batch_mesh, *given)

    def loss(params, batch_stats, batch, key):
        return checked(objective(params, batch_stats, batch, key), batch_stats)

    arguments = params, batch_stats, batch, key
    if differentiate:
        found, gradient = jax.value_and_grad(loss, has_aux=True)(*arguments)
    else:
        found, gradient = loss(*arguments), ()
    value, (batch_stats, metrics) = found
    of_batch = data.batch_metrics(batch)
    check_names(metrics, tuple(of_batch))
    values = jax.tree.map(to_be_summed, metrics | of_batch | {VALUE: value})
    return gradient, batch_stats, values


def _over_micro_batches(part, options, objective, params, batch_stats, batch, key):
    """Apply `part` to each micro-batch, one after the other; average the results."""
    parts, mesh = options.micro_batches, options.batch_mesh

    def body(carry, index_and_key):
        index, key = index_and_key
        mine = _every(parts, index, batch)
        if mesh is not None:
            mine = parallel.constrain_batch(mine, mesh)
        gradient, batch_stats, values = part(objective, params, carry[0], mine, key)
        sums = jax.tree.map(
            lambda total, own: total + own.astype(total.dtype),
            carry[1],
            (gradient, values),
        )
        return (batch_stats, sums), None

    mine = _every(parts, 0, batch)
    first = jax.eval_shape(part, objective, params, batch_stats, mine, key)
    # In bfloat16 a sum of many parts would stop growing.
    zeros = jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape, common_type(leaf.dtype, jnp.float32)),
        (first[0], first[2]),
    )
    (batch_stats, sums), _ = jax.lax.scan(
        body, (batch_stats, zeros), (jnp.arange(parts), jax.random.split(key, parts))
    )
    gradient, values = jax.tree.map(
        lambda total, leaf: (total / parts).astype(leaf.dtype),
        sums,
        (first[0], first[2]),
    )
    return gradient, batch_stats, values


def _per_device(function, mesh, objective, params, batch_stats, batch, key):
    """Apply a function to each device's own examples; average over the devices."""

    def own(objective, params, batch_stats, batch, key):
        key = jax.random.fold_in(key, jax.lax.axis_index(parallel.DATA_AXIS))
        found = function(objective, params, batch_stats, batch, key)
        return jax.tree.map(_mean_over_devices, found)

    split = jax.tree.map(
        lambda leaf: parallel.P(parallel.DATA_AXIS) if jnp.ndim(leaf) else parallel.P(),
        batch,
    )
    every = parallel.P()
    return jax.shard_map(
        own,
        mesh=mesh,
        in_specs=(every, every, every, split, every),
        out_specs=every,
        check_vma=False,  # gradients differ between devices until they are averaged
    )(objective, params, batch_stats, batch, key)


def _mean_over_devices(leaf):
    """Average a leaf over the devices; counts round down, flags and keys pass."""
    if jnp.issubdtype(leaf.dtype, jnp.inexact):
        return jax.lax.pmean(leaf, parallel.DATA_AXIS)
    if not jnp.issubdtype(leaf.dtype, jnp.integer):
        return leaf  # a flag or a key, equal on all devices
    # Counts are nearly equal on all devices: average exactly, rounding down.
    least = jax.lax.pmin(leaf, parallel.DATA_AXIS)
    more = (leaf - least).astype(jnp.promote_types(leaf.dtype, jnp.int32))
    devices = jax.lax.psum(1, parallel.DATA_AXIS)
    mean = jax.lax.psum(more, parallel.DATA_AXIS) // devices
    return least + mean.astype(leaf.dtype)


def _every(parts, index, batch):
    """Returns part `index` of a batch, of which each device holds an equal share."""
    return jax.tree.map(
        lambda leaf: (
            leaf.reshape(-1, parts, *leaf.shape[1:])[:, index]
            if jnp.ndim(leaf)
            else leaf  # a scalar of the whole batch
        ),
        batch,
    )
