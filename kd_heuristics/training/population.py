"""Populations: networks that differ in seed or numbers, trained in one program."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, SupportsIndex

import jax
import jax.numpy as jnp
import numpy as np
import optax

from kd_heuristics import points
from kd_heuristics.pytrees import leaf_names
from kd_heuristics.runtime import nearest, parallel
from kd_heuristics.runtime.compiled import as_partial
from kd_heuristics.runtime.leaves import described
from kd_heuristics.runtime.values import LARGEST, integer
from kd_heuristics.training.loop import train
from kd_heuristics.training.provenance import provenance
from kd_heuristics.training.recipe import Recipe, StepOptions
from kd_heuristics.training.recorder import Recorder
from kd_heuristics.training.settings import Checkpoints, Logging, with_old_keywords
from kd_heuristics.training.state import TrainState

PyTree = Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Member:
    """One network of a population, with the arguments that `fit` takes for it.

    Members differ in arrays only. Binding turns a rate, a schedule (as a table), a
    decay or a temperature into an array: `training.bind` for optimisers,
    `jax.tree_util.Partial` for objectives.

    Attributes:
      objective, params, batch_stats, optimizer, seed, stage: as in `fit`.
    """

    objective: Callable
    params: PyTree
    batch_stats: PyTree = None
    optimizer: optax.GradientTransformation
    seed: SupportsIndex = 0
    stage: str = "train"


def population(
    members: Sequence[Member],
    batches: Callable,
    *,
    num_steps: SupportsIndex,
    at_once: SupportsIndex | None = None,
    micro_batches: SupportsIndex = 1,
    mesh: jax.sharding.Mesh | None = None,
    spread: str = "examples",
    batch_norm: str = "global",
    steps_per_call: SupportsIndex = 50,
    on_nonfinite: str = "raise",
    logging: Logging | None = None,
    checkpoints: Checkpoints | None = None,
    **old: Any,
) -> TrainState:
    """Train all members in one program, each as `fit` would train it alone.

    On CPU the members run one after the other inside the program, and each result
    equals that of `fit` bit for bit (to rounding with jax 0.7). On GPU and TPU they run
    at once under vmap, and results are equal to rounding. The shipped table,
    `parallel.strategies`, determines the choice.

    Args:
      members: at least one; equal in structure, shapes and functions.
      batches: `(seed, step) -> batch`; each member's seed selects its own batches.
      num_steps: steps of each member.
      at_once: members that run at once under vmap, to bound memory. 1 runs them one
        after the other; `None` takes one or all, by the table.
      micro_batches: as in `fit`.
      mesh: as in `fit`; devices over which each member's batch is split.
      spread: "examples" splits each batch over the mesh. "members" distributes the
        members if the number of devices divides theirs; they all run at once under vmap
        without communication. The result is on all devices either way.
      batch_norm: as in `fit`.
      steps_per_call: maximum steps of one member per compiled call; if members run one
        after the other, the maximum over all members together.
      on_nonfinite: as in `fit`; "record" does not affect the other members.
      logging: as in `fit`.
      checkpoints: as in `fit`; checkpoints hold the stacked state.
      **old: as in `fit`; deprecated.

    Returns: the state after `num_steps`, with a leading axis [members] on all but the
      step; `member` extracts one.

    Raises:
      ValueError: there are no members, members differ in structure (the message names
        the first difference), at_once is below 1, stage names are equal with a metrics
        file; also see `fit`.
      NonFiniteError, CheckpointError: see `fit`.

    >>> from kd_heuristics.training import bind
    >>> def objective(w, _, batch, key):
    ...     return (w - batch) ** 2, ({}, {})
    >>> state = population(
    ...     [
    ...         Member(objective=objective, params=jnp.float32(0),
    ...                optimizer=bind(optax.sgd, rate), stage=f"rate {rate}")
    ...         for rate in (0.1, 0.5)
    ...     ],
    ...     lambda seed, step: jnp.float32(1), num_steps=1,
    ... )
    >>> state.params.tolist()
    [0.20000000298023224, 1.0]
    """
    logging, checkpoints = with_old_keywords(logging, checkpoints, old)
    recipe, state = _stack(members)
    nearest.choose(spread, ("examples", "members"), "spread")
    if spread == "members" and at_once is not None:
        raise ValueError(
            f'with spread="members" all members run at once, got at_once={at_once}'
        )
    at_once = _checked_at_once(at_once)
    steps_per_call = integer("steps_per_call", steps_per_call, 1)
    one_by_one = at_once == 1 or (
        (at_once, spread) == (None, "examples")
        and parallel.strategies()["population"] == "map"
    )
    if one_by_one:
        steps_per_call = -(-steps_per_call // len(members))
    num_steps = integer("num_steps", num_steps, 1, LARGEST)
    stages = [member.stage for member in members]
    if logging.metrics is not None and len(set(stages)) < len(stages):
        raise ValueError(f"each member needs a stage name of its own, got {stages}")
    options = StepOptions(
        members="map" if one_by_one else "vmap",
        at_once=at_once,
        micro_batches=integer("micro_batches", micro_batches, 1),
        mesh=mesh,
        on_nonfinite=on_nonfinite,
        spread=spread,
        batch_norm=batch_norm,
    )
    origins = [provenance(m.objective, m.optimizer, m.seed) for m in members]
    recorder = Recorder(num_steps, logging, checkpoints, stages, origins)
    return train(recipe, state, batches, options, steps_per_call, recorder, logging)


def member(state: TrainState, index: SupportsIndex) -> TrainState:
    """Returns one member of a population's state.

    Raises:
      ValueError: there is no such member.
    """
    count = len(jax.tree.leaves((state.params, state.opt_state))[0])
    index = integer("index", index, -count, count - 1, f"there are {count} members")
    own = jax.tree.map(
        lambda leaf: leaf[index], (state.params, state.batch_stats, state.opt_state)
    )
    return TrainState(state.step, *own)


def evaluate_members(
    metric: Callable[..., dict],
    state: TrainState,
    batches: PyTree,
    *,
    at_once: SupportsIndex | None = None,
) -> dict[str, np.ndarray]:
    """Returns each metric's mean over a set per member, `{name: float64 [members]}`.

    Args:
      metric: as in `evaluate`.
      state: state of a population.
      batches: as in `evaluate`.
      at_once: members evaluated at once under vmap, to bound memory; `None` evaluates
        at most 8. On CPU they run one after the other.
    """
    own = (state.params, state.batch_stats)
    return points.evaluate(
        jax.tree_util.Partial(_take, own),
        np.arange(len(jax.tree.leaves(own)[0])),
        batches,
        jax.tree_util.Partial(_own_metric, as_partial(metric)),
        chunk=_checked_at_once(at_once),
    )


def _checked_at_once(at_once):
    """Returns `at_once` as a positive int, or `None`."""
    remedy = "None chooses by the table"
    return None if at_once is None else integer("at_once", at_once, 1, remedy=remedy)


def _take(stacked, index):
    """Returns the entry at a floating-point index of each stacked leaf."""
    index = index.astype(jnp.int32)  # points are coordinates, which are float
    return jax.tree.map(lambda leaf: leaf[index], stacked)


def _own_metric(metric, own, _, batch):
    """Apply a metric to a member's own parameters and statistics."""
    return metric(*own, batch)


def _stack(members):
    """Stack the recipes and initial states of the members along a new leading axis."""
    if not members:
        raise ValueError("a population needs at least one member, got none")
    parts = [_parts(member) for member in members]
    for index, other in enumerate(parts):
        _check_equal(parts[0], other, index)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *parts)
    recipe = Recipe(stacked["objective"], stacked["optimizer"], stacked["seed"])
    state = TrainState(
        jnp.int32(0),
        stacked["params"],
        stacked["batch_stats"],
        stacked["optimizer state"],
    )
    return recipe, state


def _parts(member):
    """Returns everything that members may differ in, as arrays by name."""
    recipe = Recipe.of(member.objective, member.optimizer, member.seed)
    parts = {
        "objective": recipe.objective,
        "optimizer": recipe.update,
        "seed": recipe.seed,
        "params": member.params,
        "batch_stats": {} if member.batch_stats is None else member.batch_stats,
        "optimizer state": member.optimizer.init(member.params),
    }
    return jax.tree.map(jnp.asarray, parts)


def _check_equal(first, other, index):
    """Raise ValueError at the first difference in structure, shape or type."""
    # Compare what the user gave before what follows from it.
    for name in ("params", "batch_stats", "objective", "optimizer", "optimizer state"):
        mine, theirs = first[name], other[name]
        if jax.tree.structure(mine) != jax.tree.structure(theirs):
            remedy = {
                "objective": "; bind what differs with jax.tree_util.Partial",
                "optimizer": "; make both with training.bind and the same function",
            }.get(name, "")
            raise ValueError(
                f"members 0 and {index} differ in the structure of their {name}, so "
                f"one program cannot train both{remedy}: "
                f"{jax.tree.structure(mine)} against {jax.tree.structure(theirs)}"
            )
        both = zip(jax.tree.leaves(mine), jax.tree.leaves(theirs), strict=True)
        for leaf, (a, b) in zip(leaf_names.names(mine), both, strict=True):
            if a.shape != b.shape or a.dtype != b.dtype:
                raise ValueError(
                    f"members 0 and {index} differ in {name} {leaf}: "
                    f"{described(a)} against {described(b)}; give "
                    "all members of a population equal shapes and types"
                )
