"""Builds the objectives of distillation stages, for any trainer that accepts them.

An objective is `(params, batch_stats, batch, key) -> (scalar, (batch_stats, metrics))`,
differentiated in `params` only. Each is built from

- `student(params, batch_stats, batch, key) -> (outputs, batch_stats)`, in training
  mode; the stage compares its outputs;
- `teacher(batch) -> outputs`; see `teachers`.

Each objective is a partial whose arrays, including the teacher's, are arguments of a
compiled call; the same functions reuse the compiled program. The second stage of FSP
has no teacher: it is supervised training.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from kd_heuristics.distill import checks, hints, losses, parts
from kd_heuristics.distill.regressors import Regressor
from kd_heuristics.distill.teachers import teachable
from kd_heuristics.runtime import nearest
from kd_heuristics.runtime.compiled import as_partial

PyTree = Any


def matching_stage(
    student: Callable, teacher: Callable, loss: Callable, mask: str | None = None
) -> jax.tree_util.Partial:
    """Builds the mean over the batch of `loss(student's outputs, teacher's outputs)`.

    For stage 1 of FSP, both return pairs of maps and the loss is `fsp_loss`, or both
    return flow matrices and the loss is `fsp_distance`. For distillation without
    labels, both return logits and the loss is `kl`.

    Args:
      student: `(params, batch_stats, batch, key) -> (outputs, batch_stats)`.
      teacher: `batch -> outputs`.
      loss: `(student, teacher) -> [batch, ...]`.
      mask: name of the batch's mask, bool [batch, ...], of the values to average, such
        as the tokens that are no padding (`masked_mean`); `None` averages all.

    Returns: the objective; its metrics hold "loss".

    >>> from kd_heuristics import distill
    >>> def student(params, batch_stats, batch, key):
    ...     return batch["x"] * params["w"], batch_stats
    >>> objective = matching_stage(student, lambda batch: 2 * batch["x"], distill.l2)
    >>> batch = {"x": jnp.array([[1.0], [3.0]])}
    >>> float(objective({"w": 1.0}, {}, batch, None)[0])
    5.0
    """
    return jax.tree_util.Partial(
        _Matching(mask), as_partial(student), teachable(teacher), as_partial(loss)
    )


def hint_stage(
    student: Callable,
    teacher: Callable,
    regressor: Regressor | Sequence[Regressor],
    rest: PyTree,
) -> jax.tree_util.Partial:
    """Builds stage 1 of FitNets: mean `hint_loss`, for the part below the guided layer.

    Parameters are {"student": those below the guided layer, "regressor": what
    `regressor.init` returns}. The student's other parameters, and the running
    statistics of the layers above, keep their values in `rest`:

        mask = distill.depends_on(guided_layer, variables)
        below, rest = distill.split(variables, mask)
        params = {"student": below["params"], "regressor": regressor.init(key)}
        objective = distill.hint_stage(student, teacher, regressor, rest)
        ...  # train it
        params = distill.merge(params["student"], rest["params"])

    For several hints at once, a baseline of Yim et al. 2017, give tuples of layers, of
    regressors and of their parameters; the losses are summed. The FitNets paper uses
    one hint.

    Args:
      student: `(params, batch_stats, batch, key) -> (guided layer, batch_stats)`, which
        takes the student's whole trees; or a tuple of layers in place of the layer.
      teacher: `batch -> hint layer`, or a tuple of layers.
      regressor: from the guided to the hint layer; a tuple has one per hint.
      rest: variables above the guided layer, {"params": ..., "batch_stats": ...}, with
        None in place of those below; "batch_stats" only if the student has any.

    Returns: the objective; its metrics hold "loss".
    """
    one = isinstance(regressor, Regressor)
    regress = (
        as_partial(regressor.apply)
        if one
        else tuple(as_partial(each.apply) for each in regressor)
    )
    return jax.tree_util.Partial(
        _hint_stage, as_partial(student), teachable(teacher), regress, rest
    )


def fitnet_stage(
    student: Callable, teacher: Callable, weight: Callable, temperature: float = 3.0
) -> jax.tree_util.Partial:
    """Builds stage 2 of FitNets: mean `fitnet_loss`, for the whole student.

    Args:
      student: `(params, batch_stats, batch, key) -> (logits, batch_stats)`.
      teacher: `batch -> logits`.
      weight: `step -> lambda`; see `annealed_weight`.
      temperature: tau; 3 in the paper.

    Returns: the objective, for batches with "labels" and "step" (see `numbered`); its
      metrics hold "loss", "accuracy" and "weight".

    Raises: ValueError for a temperature that is not positive.
    """
    checks.temperature(temperature)
    return jax.tree_util.Partial(
        _fitnet_stage,
        as_partial(student),
        teachable(teacher),
        as_partial(weight),
        temperature,
    )


def joint_stage(
    student: Callable,
    teacher: Callable,
    regressor: Regressor,
    weight: Callable,
    temperature: float = 3.0,
    hint_weight: float = 1.0,
) -> jax.tree_util.Partial:
    """Builds one stage with hints and `fitnet_loss` together, unlike the paper.

    The objective is the mean of hint_weight * hint_loss + fitnet_loss. Romero et al.
    train the two stages in sequence. Many libraries train them together, and this form
    serves to compare with those. Parameters are {"student": all, "regressor": ...}.

    Args:
      student: `(params, batch_stats, batch, key) -> ((guided layer, logits),
        batch_stats)`.
      teacher: `batch -> (hint layer, logits)`.
      regressor: from the guided layer to the hint layer.
      weight: `step -> lambda`, the weight of the soft term.
      temperature: temperature of the soft term.
      hint_weight: weight of the hint term; the paper has no such weight.

    Returns: the objective, for batches with "labels" and "step" (see `numbered`); its
      metrics hold "loss", "hint_loss", "accuracy" and "weight".

    Raises: ValueError for a temperature that is not positive, or a negative weight.
    """
    checks.temperature(temperature)
    checks.weight("hint_weight", hint_weight)
    return jax.tree_util.Partial(
        _joint_stage,
        as_partial(student),
        teachable(teacher),
        as_partial(regressor.apply),
        as_partial(weight),
        temperature,
        hint_weight,
    )


def numbered(batches: Callable) -> jax.tree_util.Partial:
    """Adds its "step" to each batch, for an annealed weight.

    Args:
      batches: `(seed, step) -> batch`, a dictionary.

    >>> numbered(lambda seed, step: {"x": 0.0})(0, 7)
    {'x': 0.0, 'step': 7}
    """
    return jax.tree_util.Partial(_numbered, as_partial(batches))


def _numbered(batches, seed, step):
    return {**batches(seed, step), "step": step}


@dataclasses.dataclass(frozen=True)
class _Matching:
    """Computes the objective of `matching_stage`."""

    mask: str | None

    def __call__(self, student, teacher, loss, params, batch_stats, batch, key):
        outputs, batch_stats = student(params, batch_stats, batch, key)
        values = loss(outputs, teacher(batch))
        if self.mask is None:
            value = values.mean()
        else:
            mask = batch[nearest.choose(self.mask, batch, "mask")]
            value = losses.masked_mean(values, mask)
        return value, (batch_stats, {"loss": value})


def _hint_stage(student, teacher, regress, rest, params, batch_stats, batch, key):
    """Computes the objective of `hint_stage`."""
    whole = parts.merge(params["student"], rest["params"])
    guided, moved = student(whole, batch_stats, batch, key)
    value = _distance(regress, params["regressor"], guided, teacher(batch))
    # The whole student runs in training mode, so restore the statistics above.
    if "batch_stats" in rest:
        moved = parts.merge(rest["batch_stats"], moved)
    return value, (moved, {"loss": value})


def _distance(regress, params, guided, hint):
    """Computes the mean hint loss, summed over several hints."""
    if not isinstance(regress, tuple):
        return hints.hint_loss(regress(params, guided), hint).mean()
    each = zip(regress, params, guided, hint, strict=True)
    return sum(_distance(*one) for one in each)


def _fitnet_stage(
    student, teacher, weight, temperature, params, batch_stats, batch, key
):
    """Computes the objective of `fitnet_stage`."""
    logits, batch_stats = student(params, batch_stats, batch, key)
    value, metrics = _fitnet(logits, teacher(batch), weight, temperature, batch)
    return value, (batch_stats, metrics)


def _joint_stage(
    student,
    teacher,
    regress,
    weight,
    temperature,
    hint_weight,
    params,
    batch_stats,
    batch,
    key,
):
    """Computes the objective of `joint_stage`."""
    outputs, batch_stats = student(params["student"], batch_stats, batch, key)
    guided, logits = outputs
    hint, teacher_logits = teacher(batch)
    distance = _distance(regress, params["regressor"], guided, hint)
    value, metrics = _fitnet(logits, teacher_logits, weight, temperature, batch)
    value = value + hint_weight * distance
    return value, (batch_stats, metrics | {"loss": value, "hint_loss": distance})


def _fitnet(logits, teacher_logits, weight, temperature, batch):
    """Computes the mean `fitnet_loss` of a batch and its metrics."""
    current = weight(batch["step"])
    labels = batch["labels"]
    values = hints.fitnet_loss(logits, teacher_logits, labels, current, temperature)
    soft = jnp.issubdtype(jnp.result_type(labels), jnp.floating)
    decided = labels.argmax(-1) if soft else labels
    accuracy = (logits.argmax(-1) == decided).astype(values.dtype).mean()
    value = values.mean()
    return value, {"loss": value, "accuracy": accuracy, "weight": current}
