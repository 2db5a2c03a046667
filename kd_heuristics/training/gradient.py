"""Gradient, statistics and metrics of an objective on one batch, whole or in parts."""

import functools

import jax
import jax.numpy as jnp

from kd_heuristics import data
from kd_heuristics.runtime import parallel
from kd_heuristics.runtime.precision import common_type
from kd_heuristics.training.metrics import check_names
from kd_heuristics.training.outputs import VALUE, checked, to_be_summed


def averaged(objective, batch_stats, batch, key, form, params, differentiate=True):
    """Returns gradient, statistics and metrics of a batch, averaged over its parts.

    Args:
      objective: see `fit`.
      batch_stats: running statistics before the batch.
      batch: arrays with the examples along axis 0.
      key: random key of the batch.
      form: a `Form`.
      params: parameters at which the objective is evaluated.
      differentiate: `False` returns `()` in place of the gradient, at no cost.
    """
    part = functools.partial(
        _part,
        objective,
        params,
        mesh=form.batch_mesh if form.per_device else None,
        differentiate=differentiate,
    )
    parts = form.micro_batches
    if parts == 1:
        return part(batch_stats, batch, key)

    def body(carry, index_and_key):
        index, key = index_and_key
        mine = _every(parts, index, batch)
        if form.batch_mesh is not None:
            mine = parallel.constrain_batch(mine, form.batch_mesh)
        gradient, batch_stats, values = part(carry[0], mine, key)
        sums = jax.tree.map(
            lambda total, own: total + own.astype(total.dtype),
            carry[1],
            (gradient, values),
        )
        return (batch_stats, sums), None

    first = jax.eval_shape(part, batch_stats, _every(parts, 0, batch), key)
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


# Jitted, so that the shape evaluation and the step share one trace of the objective.
@functools.partial(jax.jit, static_argnames=("mesh", "differentiate"), inline=True)
def _part(objective, params, batch_stats, batch, key, mesh, differentiate):
    """Returns gradient, statistics and summable metrics of one micro-batch."""
    own = functools.partial(_alone, differentiate)
    if mesh is not None:
        own = functools.partial(_per_device, mesh, own)
    return own(objective, params, batch_stats, batch, key)


def _alone(differentiate, objective, params, batch_stats, batch, key):
    """Evaluate and check the objective on a batch without splitting it."""

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


def _per_device(mesh, function, objective, params, batch_stats, batch, key):
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
