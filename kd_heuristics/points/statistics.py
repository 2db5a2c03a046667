"""Batch-norm statistics estimated anew at a point of parameter space.

A network between two others has neither's statistics. Each function here gives
`refresh(params) -> batch_stats` over a set, for `points.evaluate(refresh_stats=...)` or
to be called (under `jax.jit`) on one network:

    refit_exact       population mean and variance of each layer's input in evaluation
                      mode, over the whole set: the statistics that one training-mode
                      pass over the set as a single batch would see. As many passes as
                      there are batch-norm layers, of bounded memory.
    refit_pooled      one training-mode pass: mean and population variance over the set,
                      each batch's moments combined by the law of total variance. Exact
                      for the first layer. Later ones see inputs normalised by the
                      batch's own statistics, a difference that falls with the batch
                      size. One batch that holds the set makes it exact.
    refit_cumulative  one training-mode pass: the average of the batches' means and of
                      their variances, without the spread of the batches' means. The
                      method of Garipov et al. 2018 (whose variances are unbiased, as
                      in PyTorch).

`batch_stats` is any tree of arrays "mean" and "var", in pairs side by side, as Linen
and NNX have them, or of Equinox's pairs; leaves that are not floating-point stay as
they are, but for Equinox's counters, which start anew.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from kd_heuristics.points import equinox
from kd_heuristics.points.batches import stacked
from kd_heuristics.points.moments import (
    mean_of,
    moments_of_all,
    own_moments,
    without_padding,
)
from kd_heuristics.runtime.compiled import as_partial

PyTree = Any
Step = Callable[[PyTree, PyTree, PyTree], PyTree]


def refit_exact(
    moments: Step, batch_stats: PyTree, batches: PyTree
) -> Callable[[PyTree], PyTree]:
    """Population statistics over the whole set, layer after layer.

    Layer k's inputs depend on the statistics of the layers before it only. So pass k
    over the data, with the statistics of pass k - 1, makes those of layer k exact; the
    passes end when nothing changes, at the latest after one a layer.

    Args:
      moments: `(params, batch_stats, batch) -> tree like batch_stats`: the mean and the
        (biased) variance over a batch of each batch-norm layer's input, where each
        layer normalises by `batch_stats`: evaluation mode. `input_moments` makes it.
      batch_stats: statistics of any network alike, for their shapes.
      batches: arrays [num_batches, batch, ...] with an optional "mask", as of
        `data.eval_batches`; examples that the mask leaves out are cut away before. Or
        a list or another iterable of batches of one size.

    Returns: `params -> batch_stats`, a `jax.tree_util.Partial`.

    Raises: ValueError where `batch_stats` is empty or its leaves are no pairs of "mean"
      and "var", or there are no examples.

    >>> def moments(w, _, batch):
    ...     inputs = w * batch["x"]
    ...     return {"bn": {"mean": inputs.mean(), "var": inputs.var()}}
    >>> one = {"bn": {"mean": jnp.float32(0), "var": jnp.float32(1)}}
    >>> batches = {"x": jnp.array([[0.0, 2.0], [4.0, 6.0]])}
    >>> found = refit_exact(moments, one, batches)(2.0)
    >>> float(found["bn"]["mean"]), float(found["bn"]["var"])
    (6.0, 20.0)
    """
    return _partial(_exact, moments, batch_stats, batches)


def refit_pooled(
    train: Step, batch_stats: PyTree, batches: PyTree
) -> Callable[[PyTree], PyTree]:
    """Population statistics over the set from one training-mode pass.

    mean = sum over b of n_b m_b / n and var = sum over b of n_b (v_b + (m_b - mean)^2)
    / n, for batches b of n_b examples with moments m_b, v_b.

    Args:
      train: `(params, batch_stats, batch) -> batch_stats` after a step in training
        mode, each leaf m * old + (1 - m) * batch's, 0 <= m < 1 (PyTorch calls 1 - m
        the momentum). It is called with two values of old, 0 and a large one, which
        tell m: the batch's own moments come back whatever it is, to about
        6e-8 / (1 - m) in float32. Dropout and augmentation are the caller's.
      batch_stats: as in `refit_exact`.
      batches: as in `refit_exact`.

    Returns: as `refit_exact`.

    Raises: as `refit_exact`.
    """
    return _partial(_pooled, train, batch_stats, batches)


def refit_cumulative(
    train: Step, batch_stats: PyTree, batches: PyTree
) -> Callable[[PyTree], PyTree]:
    """Averages of the batches' means and variances, weighted by their examples.

    Args:
      train: as in `refit_pooled`.
      batch_stats: as in `refit_exact`.
      batches: as in `refit_exact`.

    Returns: as `refit_exact`.

    Raises: as `refit_exact`.
    """
    return _partial(_cumulative, train, batch_stats, batches)


def _partial(function, step, batch_stats, batches):
    mean_of(batch_stats)  # Fails here rather than in the middle of an evaluation.
    batch_stats = equinox.restarted(batch_stats)
    return jax.tree_util.Partial(
        function, as_partial(step), batch_stats, without_padding(stacked(batches))
    )


@jax.jit
def _exact(moments, batch_stats, parts, params):
    def one_pass(stats):
        return moments_of_all(
            lambda batch: moments(params, stats, batch), batch_stats, parts, pool=True
        )

    def again(carry):
        passes, old, new = carry
        changed = [
            (a != b).any()
            for a, b in zip(jax.tree.leaves(old), jax.tree.leaves(new), strict=True)
        ]
        return (passes < layers) & jnp.stack(changed).any()

    layers = len(mean_of(batch_stats))
    start = (jnp.int32(1), batch_stats, one_pass(batch_stats))
    return jax.lax.while_loop(
        again, lambda carry: (carry[0] + 1, carry[2], one_pass(carry[2])), start
    )[2]


@jax.jit
def _pooled(train, batch_stats, parts, params):
    own = own_moments(train, batch_stats, params)
    return moments_of_all(own, batch_stats, parts, pool=True)


@jax.jit
def _cumulative(train, batch_stats, parts, params):
    own = own_moments(train, batch_stats, params)
    return moments_of_all(own, batch_stats, parts, pool=False)
