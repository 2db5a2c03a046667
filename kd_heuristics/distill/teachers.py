"""Teachers as functions of their inputs: one network, an ensemble, stored outputs.

A teacher is a pytree that is called: given to a compiled step as an argument its arrays
are no constants of the program, and no optimiser sees them. It is never differentiated:
neither its variables nor its inputs get a gradient through it.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from kd_heuristics.distill import checks
from kd_heuristics.runtime.compiled import as_partial

PyTree = Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Teacher:
    """A function with the variables it reads; `teacher(inputs)`.

    Attributes:
      apply: `(variables, inputs) -> outputs`, in evaluation mode: a batch norm that
        reads its running statistics and writes none. Logits, or anything else that a
        loss compares.
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


def store(
    teacher: Callable, batches: PyTree, num_examples: int | None = None
) -> Teacher:
    """A teacher's outputs on a whole set, computed once, as a teacher itself.

    For a set that is not augmented: an example's outputs must always be the same. A
    step of FSP's first stage was 1.9 times as fast with stored flow matrices for a
    ResNet-26 that teaches a ResNet-8, 1.2 times for two ResNet-14 (half and full width,
    batch 32, 2 CPU cores); Yim et al. have 35 s against 19 s, 1.8 times.

    Args:
      teacher: a function of a batch; its outputs are float arrays [batch, ...].
      batches: arrays [num_batches, batch, ...], the set in order.
      num_examples: in all; the outputs after them, of padding, are dropped. None: all
        of the batches.

    Returns: a teacher of batches with "index", as of `stored`. Its `variables` are the
      outputs, [num_examples, ...].

    Raises: ValueError where the batches hold fewer examples than that, and for outputs
      that are integers, which hold no NaN.

    >>> teacher = store(lambda x: 2 * x, jnp.arange(6.0).reshape(3, 2), 5)
    >>> teacher({"index": jnp.array([4, 0])}).tolist()
    [8.0, 0.0]
    """
    teacher = teachable(teacher)
    _check_floats(jax.eval_shape(_mapped, teacher, batches))
    outputs = _mapped(teacher, batches)
    outputs = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), outputs)
    found = {len(leaf) for leaf in jax.tree.leaves(outputs)}
    if num_examples is not None:
        if not num_examples <= min(found):
            raise ValueError(
                f"the batches hold {min(found)} examples, fewer than num_examples="
                f"{num_examples}"
            )
        outputs = jax.tree.map(lambda x: x[:num_examples], outputs)
    return stored(outputs)


def stored(outputs: PyTree) -> Teacher:
    """Outputs on a whole set, such as `data.ensemble_targets`, as a teacher.

    Args:
      outputs: float arrays [num_examples, ...], row i of example i.

    Returns: a teacher of batches with "index", integers [batch], the examples' places
      in the set; NaN for all others, negative ones such as `data.UNLABELLED` too.

    Raises: ValueError for outputs that are integers, which hold no NaN; when called,
      for batches without such an "index".

    >>> teacher = stored(jnp.array([[0.5], [2.0]]))
    >>> teacher({"index": jnp.array([1, 0, -1, 2])}).ravel().tolist()
    [2.0, 0.5, nan, nan]
    """
    outputs = jax.tree.map(jnp.asarray, outputs)
    _check_floats(outputs)
    return Teacher(_stored, outputs)


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


@jax.jit
def _mapped(teacher, batches):
    return jax.lax.map(teacher, batches)


def _check_floats(outputs):
    for leaf in jax.tree.leaves(outputs):
        if not jnp.issubdtype(leaf.dtype, jnp.inexact):
            raise ValueError(
                f"stored outputs are {leaf.dtype}; places outside the set are NaN, "
                "which takes floating-point outputs: store logits, say, and take their "
                "argmax(-1) where it is needed"
            )


def _stored(outputs, batch: Mapping[str, Any]):
    if not isinstance(batch, Mapping) or "index" not in batch:
        raise ValueError(
            'stored outputs are looked up by "index", which this batch lacks; make '
            "batches with data.train_batches(..., index=True) or data.stream"
        )
    index = checks.integers(batch["index"])
    if index is None:
        raise ValueError(
            f'"index" holds {jnp.result_type(batch["index"])}; wanted integers, the '
            "places of the examples in the set"
        )

    def rows(leaf):
        # JAX counts negative places from the end.
        place = jnp.where(index < 0, len(leaf), index)
        return leaf.at[place].get(mode="fill", fill_value=jnp.nan)

    return jax.tree.map(rows, outputs)
