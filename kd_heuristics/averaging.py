"""Averages the parameters of networks, or their predictions.

An average of parameters (SWA) costs one forward pass at test time, an average of
predictions one for each network. Both suit iterates of one run at a high or cyclic
learning rate (`schedules.sgdr`, `schedules.cyclic`). The parameters of different runs
average well only if they lie in one basin.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from kd_heuristics.curves.trees import check_alike, is_inexact
from kd_heuristics.runtime.precision import widened

PyTree = Any

__all__ = ["Running", "ensemble", "init", "mean", "result", "update"]


class Running(NamedTuple):
    """Running mean of networks: a pytree for jit, scan and checkpoints.

    Attributes:
      count: number of networks, int32.
      params: their mean, with floating-point leaves in at least float32.
      like: the first network; it determines the types of the result.

    >>> running = init({"w": jnp.array(1.0)})
    >>> for value in (2.0, 6.0):
    ...     running = update(running, {"w": jnp.array(value)})
    >>> float(result(running)["w"])
    3.0
    """

    count: jax.Array
    params: PyTree
    like: PyTree


def init(params: PyTree) -> Running:
    """Returns the mean of one network.

    Args:
      params: any tree; leaves that are not floating-point stay as they are.
    """
    wide = jax.tree.map(lambda x: widened(x) if is_inexact(x) else x, params)
    return Running(jnp.int32(1), wide, params)


def update(running: Running, params: PyTree) -> Running:
    """Adds a network to the mean: mean + (params - mean) / count.

    Raises: ValueError that names the first leaf that differs in structure, shape or
      type, or in value if it is not floating-point and known.
    """
    check_alike([running.like, params])
    count = running.count + 1

    def moved(mean, leaf):
        if not is_inexact(leaf):
            return mean
        return mean + (widened(leaf) - mean) / count.astype(mean.real.dtype)

    return Running(count, jax.tree.map(moved, running.params, params), running.like)


def result(running: Running) -> PyTree:
    """Returns the mean in the types of the networks."""

    def rounded(mean, leaf):
        return mean.astype(jnp.result_type(leaf)) if is_inexact(leaf) else leaf

    return jax.tree.map(rounded, running.params, running.like)


def mean(networks: Iterable[PyTree]) -> PyTree:
    """Returns the mean of networks' parameters (SWA, Izmailov et al. 2018).

    w = (1 / n) * sum over i of w_i (arXiv 1803.05407), computed in at least float32 and
    rounded once to the leaf's type. No w_i has the batch statistics of w: re-estimate
    them (`points.refit_exact`).

    Args:
      networks: trees alike in structure, shapes and types, for instance
        `checkpoints.restore(folder, step=step)` for several steps. A generator keeps
        one at a time in memory. Leaves that are not floating-point must agree.

    Raises: ValueError if there is no network, or the networks differ; it names the
      first leaf that does.

    >>> mean([{"w": jnp.array([1.0, 0.0])}, {"w": jnp.array([3.0, 2.0])}])["w"].tolist()
    [2.0, 1.0]
    """
    rest = iter(networks)
    for first in rest:
        running = init(first)
        break
    else:
        raise ValueError("there is no network to average: networks is empty")
    for params in rest:
        running = update(running, params)
    return result(running)


def ensemble(logits: ArrayLike) -> jax.Array:
    """Returns log-probabilities of the networks' mean prediction.

    log((1 / n) * sum over i of softmax(logits_i)), the ensemble of snapshots at the
    ends of a cyclic rate (Huang et al. 2017, arXiv 1704.00109) and of FGE (Garipov et
    al. 2018, arXiv 1802.10026), in at least float32. A class of logit -inf has
    probability 0.

    Args:
      logits: [networks, ..., classes].

    Returns: [..., classes].

    Raises: ValueError if there is no network, or no axis of classes.

    >>> found = jnp.exp(ensemble(jnp.array([[50.0, 0.0], [0.0, 0.0]])))
    >>> [round(float(share), 3) for share in found]
    [0.75, 0.25]
    """
    if jnp.ndim(logits) < 2 or jnp.shape(logits)[0] == 0:
        raise ValueError(
            "logits must be [networks, ..., classes] with at least one network, got "
            f"shape {jnp.shape(logits)}"
        )
    by_network = jax.nn.log_softmax(widened(logits), axis=-1)
    # The gradient would be NaN for a class that no network has.
    absent = (by_network == -jnp.inf).all(0)
    total = jax.nn.logsumexp(jnp.where(absent[None], 0, by_network), axis=0)
    return jnp.where(absent, -jnp.inf, total) - jnp.log(
        jnp.asarray(len(by_network), total.dtype)
    )
