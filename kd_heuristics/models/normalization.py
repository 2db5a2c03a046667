"""Defines batch norm, over the whole batch or parts of it, and group norm."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from kd_heuristics.runtime.errors import InputError
from kd_heuristics.runtime.precision import widened


class BatchNorm(nn.Module):
    """Batch norm, optionally with statistics per part of the batch ("ghost").

    In training, the batch is split into `groups` parts of consecutive examples. Part g
    has its own mean and (biased) variance over examples and pixels, per channel:

        y[n, ...] = scale * (x[n, ...] - mean[g]) / sqrt(var[g] + epsilon) + bias
        running <- momentum * running + (1 - momentum) * mean over g of the statistic

    Evaluation uses the running statistics instead. With one group this equals
    `flax.linen.BatchNorm(use_fast_variance=False)`, with the same variables: "scale"
    and "bias" under "params", "mean" and "var" under "batch_stats", each [channels].
    With more groups, the running variance is the mean variance within a part. It
    excludes the spread of the parts' means.

    It computes in at least float32, whatever `dtype` is. Parameters and running
    statistics are float32. On a mesh, the global batch is split. If the number of parts
    is a multiple of the number of devices, each part lies on one device.

    Sources: Ioffe and Szegedy 2015; for groups, Hoffer et al. 2017, algorithm 1. The
    latter updates the running statistics once per part; we update once, by their mean.

    Attributes:
      use_running_average: true for evaluation, false for training.
      momentum: share of the running statistics kept at each step.
      groups: number of parts; in training it must divide the batch size.
      epsilon: added to the variance.
      dtype: type of the result.

    >>> layer = BatchNorm(use_running_average=False, groups=2)
    >>> x = jnp.array([[1.0], [3.0], [10.0], [30.0]])
    >>> layer.init_with_output(jax.random.key(0), x)[0].round(2).ravel().tolist()
    [-1.0, 1.0, -1.0, 1.0]
    """

    use_running_average: bool
    momentum: float = 0.9
    groups: int = 1
    epsilon: float = 1e-5
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalises x [batch, ..., channels]; InputError if groups do not fit."""
        channels = x.shape[-1:]
        scale = self.param("scale", nn.initializers.ones, channels, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, channels, jnp.float32)
        mean = self.variable("batch_stats", "mean", jnp.zeros, channels, jnp.float32)
        var = self.variable("batch_stats", "var", jnp.ones, channels, jnp.float32)

        parts = _split(x, 1 if self.use_running_average else self.groups)
        if self.use_running_average:
            moments = mean.value[None], var.value[None]
        else:
            moments = _moments(parts)
            if not self.is_initializing():
                for running, moment in zip((mean, var), moments, strict=True):
                    running.value = self._moved(running.value, moment.mean(0))

        part_mean, part_var = (_spread(moment, parts.ndim) for moment in moments)
        factor = jax.lax.rsqrt(part_var + self.epsilon) * _spread(scale, parts.ndim)
        y = (parts - part_mean) * factor + _spread(bias, parts.ndim)
        return y.reshape(x.shape).astype(self.dtype)

    def _moved(self, running, moment):
        """Updates a running statistic."""
        moved = self.momentum * running + (1 - self.momentum) * moment
        return moved.astype(running.dtype)


def _split(x, groups):
    """Splits x into [groups, batch / groups, ..., c], in at least float32."""
    batch = x.shape[0]
    if batch % groups:
        raise InputError(
            f"batch_norm_groups must divide the batch size, got {groups} groups for "
            f"{batch} examples; 1 uses the statistics of the whole batch"
        )
    x = widened(x)
    return x.reshape(groups, batch // groups, *x.shape[1:])


def _moments(parts):
    """Computes mean and variance [groups, c], in two passes to avoid cancellation."""
    axes = tuple(range(1, parts.ndim - 1))
    mean = parts.mean(axes)
    return mean, jnp.square(parts - _spread(mean, parts.ndim)).mean(axes)


def _spread(vector, ndim):
    """Reshapes [..., c] to [groups or 1, 1, ..., 1, c], to broadcast."""
    groups = vector.shape[:-1] or (1,)
    return vector.reshape(*groups, *(1,) * (ndim - 2), vector.shape[-1])


class GroupNorm(nn.Module):
    """Normalises groups of consecutive channels of each example to mean 0, variance 1.

        y = scale * (x - mean) / sqrt(var + epsilon) + bias

    with mean and (biased) variance over all pixels and the channels of a group. It
    equals `flax.linen.GroupNorm(use_fast_variance=False)`, with the same parameters,
    "scale" and "bias" [channels]. It sums over pixels first, for all channels at once,
    which is several times as fast on a CPU as summing over the few channels of a group.
    It computes in at least float32, whatever `dtype` is.

    Source: Wu & He 2018.

    Attributes:
      groups: number of groups; must divide the channels.
      epsilon: added to the variance.
      dtype: type of the result.
    """

    groups: int
    epsilon: float = 1e-5
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalises x [batch, h, w, channels]; InputError if groups do not fit."""
        channels = x.shape[-1]
        if channels % self.groups:
            raise InputError(
                f"norm_groups must divide the channels, got {self.groups} groups for "
                f"{channels} channels ({self.name}); change the width or norm_groups"
            )
        scale = self.param("scale", nn.initializers.ones, (channels,), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (channels,), jnp.float32)
        x = widened(x)
        centred = x - self._mean(x)  # in two passes, which does not cancel
        factor = jax.lax.rsqrt(self._mean(jnp.square(centred)) + self.epsilon)
        y = centred * (factor * _spread(scale, 4)) + _spread(bias, 4)
        return y.astype(self.dtype)

    def _mean(self, x):
        """Averages [batch, h, w, c] to [batch, 1, 1, c], one value per group."""
        own = x.mean((1, 2)).reshape(x.shape[0], self.groups, -1)
        means = jnp.broadcast_to(own.mean(-1, keepdims=True), own.shape)
        return means.reshape(x.shape[0], 1, 1, -1)


def group_norm(groups: int, dtype: Any, x: jax.Array, *, name: str) -> jax.Array:
    """Applies `GroupNorm` to x, as a submodule of the calling module."""
    return GroupNorm(groups, dtype=dtype, name=name)(x)
