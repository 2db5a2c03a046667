"""An average of the parameters beside them, as part of the optimiser."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from kd_heuristics.runtime import values
from kd_heuristics.runtime.precision import common_type

PyTree = Any


class EmaState(NamedTuple):
    """The wrapped optimiser's state and the average."""

    inner: Any
    average: Any


def ema(
    inner: optax.GradientTransformation, decay: ArrayLike
) -> optax.GradientTransformationExtraArgs:
    """The optimiser `inner`, which also averages the parameters it makes.

    a_0 = w_0 and a_k = decay * a_(k-1) + (1 - decay) * w_k, w_k the parameters after
    update k. The parameters are trained as without it; `ema_params` reads the average
    off a state. It is in float32 at least: bfloat16 cannot hold so small a move.

    Args:
      inner: any optax transformation; this wraps all of it.
      decay: in [0, 1); a traced value is not checked.

    Raises:
      ValueError: decay outside [0, 1), or an update without params.

    >>> optimizer = ema(optax.sgd(1.0), decay=0.75)
    >>> state = optimizer.init(4.0)
    >>> _, state = optimizer.update(4.0, state, 4.0)
    >>> float(state.average)
    3.0
    """
    values.require_share("decay", decay, "0 keeps the newest parameters")
    inner = optax.with_extra_args_support(inner)

    def init(params):
        # A copy: a compiled step donates both, and cannot take one buffer twice.
        return EmaState(inner.init(params), jax.tree.map(_wide_copy, params))

    def update(updates, state, params=None, **extra_args):
        if params is None:
            raise ValueError("ema averages parameters: call update with params=...")
        updates, own = inner.update(updates, state.inner, params, **extra_args)
        moved = optax.apply_updates(params, updates)
        moved = jax.tree.map(lambda w, a: w.astype(a.dtype), moved, state.average)
        average = optax.incremental_update(moved, state.average, 1 - decay)
        return updates, EmaState(own, average)

    return optax.GradientTransformationExtraArgs(init, update)


def _wide_copy(leaf):
    """A copy in float32, or in its own type where that is wider."""
    return jnp.array(leaf, common_type(jnp.result_type(leaf), jnp.float32))


def ema_params(opt_state: PyTree) -> PyTree:
    """The averaged parameters in an optimiser state, in float32 at least.

    Raises:
      ValueError: there is no `ema` in it, or more than one.
    """
    leaves = jax.tree.leaves(opt_state, is_leaf=lambda x: isinstance(x, EmaState))
    found = [leaf.average for leaf in leaves if isinstance(leaf, EmaState)]
    if len(found) != 1:
        raise ValueError(
            f"expected one training.ema in the optimiser's state, found {len(found)}"
        )
    return found[0]
