"""Freezing until a step, in one compiled program."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from kd_heuristics.freezing import leaves
from kd_heuristics.runtime import values
from kd_heuristics.schedules import counts

PyTree = Any


class FreezeState(NamedTuple):
    """State of `freeze`.

    Attributes:
      count: int32 scalar, updates done, to which `start` and `until` refer.
      inner_state: the inner optimiser's state. While leaves are frozen, their entries
        keep their initial values.
      restarted: the counters of the inner state that restart at the thaw, as the thawed
        leaves see them, by path in `inner_state`.
    """

    count: jax.Array
    inner_state: PyTree
    restarted: dict[str, jax.Array]


def freeze(
    inner: optax.GradientTransformation,
    frozen: leaves.Predicate,
    until: ArrayLike | Callable[[jax.Array], ArrayLike],
    start: ArrayLike = 0,
) -> optax.GradientTransformationExtraArgs:
    """Makes an optimiser that leaves some leaves unchanged until a step.

    At updates start <= count < until the chosen leaves get the update -0.0, which
    changes no bit of a weight; the inner optimiser is shown zero gradients and zero
    weights for them, so that a global-norm clipping inside ignores them; and their part
    of its state stays as newly initialised. From `until` on they behave as if their
    optimiser had been made at that moment, moments and bias correction included, while
    schedules keep counting from the first update of all. Other leaves are treated
    throughout as by the inner optimiser alone. One compiled program serves the steps
    before, during and after.

    A counter restarts if it lies beside values of the parameters in one node of the
    inner state, as the count of Adam lies beside its moments. All other counters and
    scalars continue, such as those of schedules, `inject_hyperparams` and plateau
    detection. A custom transformation must lay out its state likewise. Values of
    parameters are found by their structure, which is that of the parameters; names of
    fields do not matter.

    Limits:
      * Whatever moves weights must be inside: a decay or noise chained after `freeze`
        moves frozen leaves too, and a clipping chained before it counts them.
      * With a counter that starts again (Adam, not SGD) the inner optimiser runs twice
        a step, once by each count; gradients are clipped right, but a clipping inside
        that comes *after* Adam sees each group's norm by the wrong count for the other
        group, which matters until the bias corrections have faded.
      * `optax.MultiSteps` goes around `freeze`, not inside: its accumulation would
        start again out of step.
      * Gradients of frozen leaves are still computed; if layers are frozen for good,
        `stop_frozen` avoids that.

    Args:
      inner: any optax transformation, decay included.
      frozen: `path -> bool`, true for the leaves to freeze; a path is "fc/kernel",
        also in an `nnx.State`, inside `nnx.Optimizer` and in boxes of Linen.
      until: the first update at which they move again, above `start`; or a schedule,
        `count -> bool`, true while they are frozen. It may be traced.
      start: the first update at which they are frozen.

    Returns: an optax transformation.

    Raises: ValueError at once if known steps are out of order; at `init` and `update`
      if `frozen` names no leaf or every leaf, listing all paths.

    >>> optimizer = freeze(optax.sgd(1.0), lambda path: path == "fc", until=1)
    >>> params = {"conv": jnp.ones(()), "fc": jnp.ones(())}
    >>> state = optimizer.init(params)
    >>> for _ in range(2):
    ...     updates, state = optimizer.update(params, state, params)
    ...     print({name: float(update) for name, update in updates.items()})
    {'conv': -1.0, 'fc': -0.0}
    {'conv': -1.0, 'fc': -1.0}
    """
    inner = optax.with_extra_args_support(inner)
    _check_steps(until, start)

    def init(params):
        leaves.check_selects_some(frozen, params)
        state = inner.init(params)
        own = _restarted(state, _roles(state, leaves.selected(frozen, params)))
        # Copies, because a step that donates its state must not hold an array twice.
        own = {name: jnp.array(leaf, copy=True) for name, leaf in own.items()}
        return FreezeState(jnp.zeros([], jnp.int32), state, own)

    def update(updates, state, params=None, **extra_args):
        leaves.check_selects_some(frozen, updates)
        now = is_frozen(state.count, until, start)
        mask = leaves.selected(frozen, updates)
        roles = _roles(state.inner_state, mask)
        fresh = inner.init(updates if params is None else params)
        shown = _replaced(now, 0, mask, updates)
        weights = None if params is None else _replaced(now, 0, mask, params)

        def run(inner_state):
            return inner.update(shown, inner_state, weights, **extra_args)

        moved, after = own_moved, own_after = run(state.inner_state)
        if state.restarted:
            own = _with_restarted(state.inner_state, roles, state.restarted)
            own_moved, own_after = run(own)
        moved = jax.tree.map(lambda m, a, b: b if m else a, mask, moved, own_moved)
        restarted = _choose(now, _restarted(fresh, roles), _restarted(own_after, roles))
        after = _merged(now, roles, after, own_after, fresh)
        count = jnp.asarray(optax.safe_increment(state.count))
        return _replaced(now, -0.0, mask, moved), FreezeState(count, after, restarted)

    return optax.GradientTransformationExtraArgs(init, update)


def is_frozen(
    count: ArrayLike,
    until: ArrayLike | Callable[[jax.Array], ArrayLike],
    start: ArrayLike = 0,
) -> jax.Array:
    """Whether `freeze` with the same `until` and `start` is frozen at an update.

    >>> [bool(is_frozen(count, until=3, start=1)) for count in range(5)]
    [False, True, True, False, False]
    """
    _check_numbers(until, start)
    counts.check_count(count)
    count = jnp.asarray(count)
    active = until(count) if callable(until) else ~counts.reached(count, until)
    return jnp.asarray(active, bool) & counts.reached(count, start)


# Roles of leaves of the inner state: shared by all parameters and steps; value of a
# parameter that freezes; counter that restarts when that parameter thaws.
_SHARED, _FREEZES, _RESTARTS = "shared", "freezes", "restarts"


def _roles(state: PyTree, mask: PyTree) -> list[str]:
    """Returns the role of each leaf of an optimiser's state, in order.

    A node with the structure of the parameters holds values of them, whatever its
    fields are called; counters beside it serve the parameters.
    """
    own = _values(state, mask)
    if own is not None:
        return own
    nodes = [node for _, node in _children(state)]
    # A dictionary of hyperparameters holds no parameters, even with the same keys.
    numbers = getattr(state, "hyperparams", None)
    found = [None if n is numbers else _values(n, mask) for n in nodes]
    counter = _SHARED if all(own is None for own in found) else _RESTARTS
    roles = []
    for node, own in zip(nodes, found, strict=True):
        if own is not None:
            roles += own
        elif _is_leaf(node):
            roles.append(counter)
        elif node is numbers:
            roles += [_SHARED] * len(jax.tree.leaves(node))
        else:
            roles += _roles(node, mask)
    return roles


def _values(node: PyTree, mask: PyTree) -> list[str] | None:
    """Returns the roles of a node's leaves, or None if its structure is not theirs.

    Some parameters may be missing, as behind `optax.masked`, but not all.
    """
    if not jax.tree.leaves(node):
        return None
    if _is_leaf(node) or _is_leaf(mask):
        alike = _is_leaf(node) and _is_leaf(mask)
        return [_FREEZES if mask else _SHARED] if alike else None
    ours, theirs = _children(node), _children(mask)
    if _kind(node) != _kind(mask) or [k for k, _ in ours] != [k for k, _ in theirs]:
        return None
    roles = []
    for (_, child), (_, own) in zip(ours, theirs, strict=True):
        found = _values(child, own) if jax.tree.leaves(child) else []
        if found is None:
            return None
        roles += found
    return roles


def _children(node) -> list[tuple]:
    """Returns the children of a node, with their paths."""
    return jax.tree_util.tree_leaves_with_path(node, is_leaf=lambda x: x is not node)


def _is_leaf(node) -> bool:
    return jax.tree_util.all_leaves([node])


def _kind(node):
    """Returns a node's type, with one for all mappings and one for lists and tuples."""
    if isinstance(node, Mapping):
        return Mapping
    return Sequence if type(node) in (list, tuple) else type(node)


def _restarted(state, roles):
    """Returns the counters of a state that restart, by path."""
    found = jax.tree_util.tree_leaves_with_path(state)
    return {
        jax.tree_util.keystr(path): leaf
        for (path, leaf), role in zip(found, roles, strict=True)
        if role == _RESTARTS
    }


def _with_restarted(state, roles, restarted):
    """Replaces the counters of a state by those that `_restarted` returned."""
    found, structure = jax.tree_util.tree_flatten_with_path(state)
    return structure.unflatten(
        restarted[jax.tree_util.keystr(path)] if role == _RESTARTS else leaf
        for (path, leaf), role in zip(found, roles, strict=True)
    )


def _merged(now, roles, after, own_after, fresh):
    """Returns the next state, with each leaf from its own run or from the start."""
    structure = jax.tree.structure(after)
    rows = zip(roles, *map(jax.tree.leaves, (after, own_after, fresh)), strict=True)
    return structure.unflatten(
        _choose(now, start, own) if role == _FREEZES else shared
        for role, shared, own, start in rows
    )


def _choose(now, yes, no):
    """Selects `yes` or `no` leaf by leaf, with the types of `no`."""
    return jax.tree.map(lambda y, n: jnp.where(now, y, n).astype(n.dtype), yes, no)


def _replaced(now, value, mask, tree):
    """Replaces frozen leaves by a number, while they are frozen."""

    def replaced(m, x):
        return jnp.where(now, value, x).astype(jnp.result_type(x)) if m else x

    return jax.tree.map(replaced, mask, tree)


def _check_steps(until, start):
    first, last = _check_numbers(until, start)
    if first is not None and first < 0:
        raise ValueError(
            f"start must not be negative, got {first}; 0 is the first step"
        )
    if first is not None and last is not None and last <= first:
        raise ValueError(
            f"until must be above start, got until={last} and start={first}; "
            "to freeze nothing use the inner optimiser itself"
        )


def _check_numbers(until, start):
    """Returns both as Python numbers; None for a traced one or a schedule."""
    first = values.finite("start", start, "0 is the first step")
    if callable(until):
        return first, None
    remedy = "give the first update at which the leaves move again, or a schedule"
    return first, values.finite("until", until, remedy)
