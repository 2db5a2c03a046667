"""The objective whose minimiser is a curve of low loss."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, SupportsFloat, SupportsIndex

import jax
import jax.numpy as jnp

from kd_heuristics.curves import trees
from kd_heuristics.curves.curve import Curve, bezier, polychain
from kd_heuristics.pytrees import leaf_names
from kd_heuristics.runtime.precision import common_type, widened
from kd_heuristics.runtime.values import integer

PyTree = Any

_KINDS = {"polychain": polychain, "bezier": bezier}


def sample_t(
    key: jax.Array, num: SupportsIndex = 1, *, stratified: bool = False
) -> jax.Array:
    """Random points of a curve, [num], uniform over [0, 1).

    Args:
      key: of the draw.
      num: how many, at least 1.
      stratified: one in each of `num` equal parts, t_i = (i + u_i) / num: the mean over
        them has the same expectation and less variance.

    Raises: ValueError for fewer than one.

    >>> (sample_t(jax.random.key(0), 4, stratified=True) * 4).astype(int).tolist()
    [0, 1, 2, 3]
    """
    num = integer("num", num, 1)
    # Drawn in float32, so that x64 changes no draw.
    uniform = jax.random.uniform(key, (num,), jnp.float32).astype(float)
    part = jnp.arange(num).astype(uniform.dtype)
    return (part + uniform) / num if stratified else uniform


@dataclasses.dataclass(frozen=True, kw_only=True)
class CurveLoss:
    """E over t ~ U(0, 1) of the loss at phi(t), by Monte Carlo (Garipov et al. 2018).

    An instance is an objective once the ends and the network's objective are bound:

        loss = curves.CurveLoss(kind="bezier", num_t=2, stratified=True)
        objective = jax.tree_util.Partial(loss, (a, b), jax.tree_util.Partial(network))
        state = training.fit(objective, (curves.midpoint(a, b),), {}, optimizer, ...)
        curve = curves.bezier([a, *state.params, b])

    The parameters are a tuple of bends, or a `Curve` for `ends` None: then its ends are
    fitted too. Bound this way, one compiled program fits every curve, and curves of
    equal shapes can be fitted side by side. Decay of the bends themselves is the
    optimiser's.

    Attributes:
      kind: "polychain" or "bezier"; of no effect where the parameters are a `Curve`.
      num_t: points of the curve a step; the loss and the metrics are their means, as
        are the batch statistics.
      stratified: how they are drawn, see `sample_t`.
      weight_decay: coefficient c of c / 2 * |phi(t)|^2, added to the loss: L2 decay of
        the interpolated weights.
      decays: which leaves it counts, `"fc/kernel" -> bool`; default: all that are
        floating-point.
      at_once: the points of a step under vmap (for GPU and TPU), else one after the
        other.
    """

    kind: str = "polychain"
    num_t: SupportsIndex = 1
    stratified: bool = False
    weight_decay: SupportsFloat = 0.0
    decays: Callable[[str], bool] | None = None
    at_once: bool = False

    def __post_init__(self):
        if self.kind not in _KINDS:
            raise ValueError(f"kind must be one of {sorted(_KINDS)}, got {self.kind!r}")
        object.__setattr__(self, "num_t", integer("num_t", self.num_t, 1))
        decay = float(self.weight_decay)
        object.__setattr__(self, "weight_decay", decay)
        if not 0 <= decay < math.inf:
            raise ValueError(
                f"weight_decay must be finite and not negative, got {self.weight_decay}"
            )

    def __call__(
        self,
        ends: tuple[PyTree, PyTree] | None,
        objective: Callable,
        params: PyTree,
        batch_stats: PyTree,
        batch: PyTree,
        key: jax.Array,
    ) -> tuple[jax.Array, tuple[PyTree, dict[str, jax.Array]]]:
        """The objective: `(scalar, (batch_stats, metrics))`.

        Args:
          ends: the trees at t = 0 and 1; None: `params` is the curve.
          objective: `(params, batch_stats, batch, key) -> (scalar, (batch_stats,
            metrics))` of one network.
          params: the bends, a tuple, or a `Curve`.
          batch_stats: given to the objective at every t.
          batch: the same at every t.
          key: of the points and, a fresh one each, of the objective.
        """
        curve = self._curve(ends, params)
        key_t, key = jax.random.split(key)
        ts = sample_t(key_t, self.num_t, stratified=self.stratified)

        def at(t, key):
            weights = curve.at(t)
            value, (stats, metrics) = objective(weights, batch_stats, batch, key)
            return self._decayed(value, weights), (stats, metrics)

        if self.num_t == 1:
            return at(ts[0], key)
        drawn = (ts, jax.random.split(key, int(self.num_t)))
        if self.at_once:
            found = jax.vmap(at)(*drawn)
        else:
            found = jax.lax.map(lambda own: at(*own), drawn)
        return jax.tree.map(_mean, found)

    def _curve(self, ends, params) -> Curve:
        if isinstance(params, Curve):
            return params
        if ends is None or not isinstance(params, tuple | list):
            raise ValueError(
                "the parameters of a curve are a tuple of bends, with two ends bound, "
                f"or a curves.Curve; got {type(params).__name__}"
            )
        return _KINDS[self.kind]([ends[0], *params, ends[1]])

    def _decayed(self, value, weights) -> jax.Array:
        """A loss with the decay of the weights."""
        if not self.weight_decay:
            return value
        squares = [
            jnp.square(jnp.abs(widened(leaf))).sum()
            for name, leaf in zip(
                leaf_names.names(weights), jax.tree.leaves(weights), strict=True
            )
            if trees.is_inexact(leaf) and (self.decays is None or self.decays(name))
        ]
        decay = float(self.weight_decay) / 2 * trees.total(squares)
        value = jnp.asarray(value)
        dtype = common_type(value.dtype, decay.dtype)
        return value.astype(dtype) + decay.astype(dtype)


def _mean(values):
    """Over the points; what is counted, not measured, is the first point's."""
    return values.mean(0) if jnp.issubdtype(values.dtype, jnp.inexact) else values[0]
