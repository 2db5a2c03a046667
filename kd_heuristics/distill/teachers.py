"""Teachers as functions of their inputs: one network or an ensemble.

A teacher is a pytree that is called: given to a compiled step as an argument its arrays
are no constants of the program, and no optimiser sees them. It is never differentiated:
neither its variables nor its inputs get a gradient through it.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from kd_heuristics.distill import checks
from kd_heuristics.runtime import nearest
from kd_heuristics.runtime.compiled import as_partial

PyTree = Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Teacher:
    """A function with the variables it reads; `teacher(inputs)`.

    Attributes:
      apply: `(variables, inputs) -> outputs`, logits or anything else that a loss
        compares. Mostly in evaluation mode, in which batch norm reads its running
        statistics; `from_network(batch_norm="batch")` uses the batch's.
      variables: any pytree of arrays.

    >>> teacher = Teacher(lambda w, x: w * x, jnp.array([2.0]))
    >>> jax.value_and_grad(lambda x: teacher(x).sum())(jnp.array([3.0]))
    (Array(6., dtype=float32), Array([0.], dtype=float32))
    """

    apply: Callable[[PyTree, Any], Any] = dataclasses.field(metadata={"static": True})
    variables: PyTree

    def __call__(self, inputs: Any) -> Any:
        # Before the call, so that it leaves nothing for a backward pass.
        variables, inputs = jax.tree.map(_stopped, (self.variables, inputs))
        return jax.lax.stop_gradient(self.apply(variables, inputs))


def _stopped(leaf):
    """The leaf without its gradient; integers stay as they are, of NumPy too."""
    inexact = jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)
    return jax.lax.stop_gradient(leaf) if inexact else leaf


Member = Teacher | Callable[[Any], jax.Array]


def from_network(
    network: Any,
    variables: PyTree,
    *,
    inputs: Callable[[Any], jax.Array] | None = None,
    batch_norm: str = "running",
    key: jax.Array | None = None,
) -> Teacher:
    """Makes a teacher of a network and its variables; it returns logits.

    With `training.ema`, the averaged parameters make one:

        params = training.ema_params(state.opt_state)
        variables = training.with_stats(params, state.batch_stats)
        teacher = distill.from_network(network, variables, batch_norm="batch")

    The running statistics are those of the trained parameters, not of their average;
    `batch_norm="batch"` does not use them.

    Args:
      network: `models.Network`, or an object with its `apply` and `train`.
      variables: the network's, such as those of a checkpoint.
      inputs: `batch -> images`, such as a classifier's `inputs` of the pixels; `None`
        gives the batch itself to the network.
      batch_norm: "running" evaluates the network: each example by itself. "batch" runs
        it in training mode: batch norm normalises by the mean and variance of the batch
        at hand, so an example's target depends on the others in its batch; the running
        statistics are neither read nor updated; dropout is active too, with the same
        mask at each call. Do not store such outputs: they hold for their batch alone.
      key: random key of that dropout; `None` is key 0. Unused with "running".

    Raises: ValueError for an unknown `batch_norm`.

    >>> import types
    >>> double = types.SimpleNamespace(apply=lambda w, x: w * x, train=None)
    >>> from_network(double, jnp.array(2.0))(jnp.array([[1.0, 3.0]])).tolist()
    [[2.0, 6.0]]
    """
    if nearest.choose(batch_norm, ("running", "batch"), "batch_norm") == "running":
        return Teacher(_Evaluated(network.apply, inputs), variables)
    key = jax.random.key(0) if key is None else key
    return Teacher(_InTraining(network.train, inputs), (variables, key))


@dataclasses.dataclass(frozen=True)
class _Evaluated:
    """A network in evaluation mode; equal networks share compiled programs."""

    apply: Callable
    inputs: Callable | None

    def __call__(self, variables, batch):
        return self.apply(
            variables, batch if self.inputs is None else self.inputs(batch)
        )


@dataclasses.dataclass(frozen=True)
class _InTraining:
    """A network in training mode, without the statistics that it moves."""

    train: Callable
    inputs: Callable | None

    def __call__(self, variables_and_key, batch):
        variables, key = variables_and_key
        images = batch if self.inputs is None else self.inputs(batch)
        return self.train(variables, images, key)[0]


def mean_of_logits(members: Sequence[Member]) -> Teacher:
    """An ensemble whose logits are the mean of its members' logits.

    Its softened prediction is the members' geometric mean, at every temperature
    (Hinton et al. 2015, sec. 2; the ensemble of Beyer et al. 2022).

    Args:
      members: teachers, or functions of the inputs, of one label set.

    Raises: ValueError for no member; when called, for logits of different shapes.

    >>> teacher = mean_of_logits([lambda x: x, lambda x: 3 * x])
    >>> teacher(jnp.array([[1.0, 0.0]])).tolist()
    [[2.0, 0.0]]
    """
    return Teacher(_mean_of_logits, _members(members))


def mean_of_probabilities(
    members: Sequence[Member], temperature: ArrayLike = 1.0
) -> Teacher:
    """An ensemble whose prediction is the mean of its members' predictions.

    logits = T * log(mean over m of softmax(logits_m / T)), T = temperature: what a
    loss at the same temperature turns into the arithmetic mean of the softened
    predictions (Hinton et al. 2015, sec. 2).

    Args:
      members: teachers, or functions of the inputs, of one label set.
      temperature: that of the loss, positive.

    Raises: ValueError for no member, or a temperature that is not positive; when
      called, for logits of different shapes.

    >>> sure = [lambda x: x, lambda x: -x]
    >>> logits = mean_of_probabilities(sure)(jnp.array([[50.0, 0.0]]))
    >>> jax.nn.softmax(logits).round(4).tolist()
    [[0.5, 0.5]]
    """
    checks.temperature(temperature)
    return Teacher(_mean_of_probabilities, (_members(members), temperature))


def sum_of_losses(loss: Callable, members: Sequence[Member]) -> jax.tree_util.Partial:
    """The ensemble that gives a student each member's targets, all at once.

    sum over m of loss(student, member_m(inputs), ...); for cross-entropies as if from
    the mean of the members' predictions, times their number.

    Args:
      loss: `(student, teacher, ...) -> [batch]`.
      members: teachers, or functions of the inputs.

    Returns: `(student, inputs, ...) -> [batch]`, whose further arguments go to `loss`.

    Raises: ValueError for no member.

    >>> from kd_heuristics.distill.losses import l2
    >>> loss = sum_of_losses(l2, [lambda x: x, lambda x: 3 * x])
    >>> loss(jnp.zeros((1, 1)), jnp.ones((1, 1)))
    Array([10.], dtype=float32)
    """
    return jax.tree_util.Partial(_sum_of_losses, as_partial(loss), _members(members))


def teachable(function: Callable) -> Callable:
    """The function as a pytree that a compiled call takes as an argument.

    Teachers and partials stay as they are; a plain function becomes a partial.
    """
    if not jax.tree_util.all_leaves([function]):
        return function
    return as_partial(function)


def _members(members: Sequence[Member]) -> tuple[Callable, ...]:
    if not members:
        raise ValueError("an ensemble needs at least one member, got none")
    return tuple(teachable(member) for member in members)


def _logits(members, inputs) -> list[jax.Array]:
    logits = [
        checks.logits(f"logits of member {number}", member(inputs))
        for number, member in enumerate(members)
    ]
    for number, array in enumerate(logits):
        if array.shape != logits[0].shape:
            raise ValueError(
                f"members 0 and {number} have logits of {logits[0].shape} and "
                f"{array.shape}; an ensemble needs one label set"
            )
    return logits


def _mean_of_logits(members, inputs):
    return sum(_logits(members, inputs)) / len(members)


def _mean_of_probabilities(variables, inputs):
    members, temperature = variables
    softened = [
        jax.nn.log_softmax(logits / temperature, -1)
        for logits in _logits(members, inputs)
    ]
    total = jax.nn.logsumexp(jnp.stack(softened), 0)
    return temperature * (total - jnp.log(jnp.asarray(len(members), total.dtype)))


def _sum_of_losses(loss, members, student, inputs, *rest):
    targets = (jax.lax.stop_gradient(member(inputs)) for member in members)
    return sum(loss(student, target, *rest) for target in targets)
