"""Optimisers of the papers, with decay on kernels, clipping and schedules as data."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax

from kd_heuristics import schedules
from kd_heuristics.pytrees import leaf_kinds, leaf_names
from kd_heuristics.runtime import values

Number = Any  # a number or a scalar array, traced ones too
Rate = Any  # a number or an `optax.Schedule`
Mask = Any  # a tree of bools, or a function of the parameters that returns one


def sgd(
    learning_rate: Rate,
    momentum: Number = 0.9,
    weight_decay: Number = 0.0,
    clip_norm: Number | None = None,
    *,
    nesterov: bool = False,
    mask: Mask | None = None,
) -> optax.GradientTransformation:
    """SGD with momentum and coupled L2 decay, as in PyTorch.

    g = clip(dL/dw) + weight_decay * w for kernels; m = momentum * m + g;
    w = w - learning_rate * m, or w - learning_rate * (g + momentum * m) if `nesterov`.

    Args:
      learning_rate: a number or an `optax.Schedule` of the step.
      momentum: in [0, 1).
      weight_decay: L2 coefficient, on `kernels` only: biases and batch-norm scales are
        not decayed.
      clip_norm: largest global norm of the gradient, before decay; above 0. `None`
        disables clipping, and so does infinity for one member of a population.
      nesterov: whether to use Nesterov momentum.
      mask: leaves to decay, as a tree of bools or a function of the parameters that
        returns one. `None` selects `kernels`.

    All numbers may be arrays, also traced ones, so that the members of a population can
    differ in them.

    Raises: ValueError if a known number is out of range; at `init` and `update` if a
      known decay above 0 matches no leaf.
    """
    check_rate(learning_rate)
    values.require_share("momentum", momentum, "0.9 is usual")
    shrink = decay(weight_decay, mask)
    return optax.chain(
        *clipping(clip_norm),
        *([shrink] if _used(weight_decay) else []),
        optax.sgd(
            learning_rate,
            momentum=momentum if _used(momentum) else None,
            nesterov=nesterov,
        ),
    )


def adam(
    learning_rate: Rate,
    schedule: optax.Schedule | None = None,
    weight_decay: Number = 0.0,
    clip_norm: Number | None = None,
    *,
    nesterov: bool = False,
    moment_dtype: Any = None,
    mask: Mask | None = None,
) -> optax.GradientTransformation:
    """Adam with a decay that the rate does not multiply (Beyer et al. 2022).

    w = w - s(t) * (learning_rate * a + weight_decay * w) for kernels. Here a is Adam's
    step (b1 0.9, b2 0.999, eps 1e-8) of the clipped gradient, and s is the schedule,
    which peaks at 1. `optax.adamw(lambda t: learning_rate * s(t), weight_decay=decay)`
    multiplies its decay by the rate; it equals this optimiser if
    decay = weight_decay / learning_rate.

    Args:
      learning_rate: rate at the schedule's peak; or an `optax.Schedule` of its own,
        which does not multiply the decay.
      schedule: s; `None` keeps it at 1. `warmup_cosine` is the paper's.
      weight_decay: share of a kernel removed per step at the schedule's peak, on
        `kernels` only; not multiplied by the rate.
      clip_norm: largest global norm of the gradient, above 0; `None` disables clipping.
        The paper uses 1.
      nesterov: whether Adam's step looks ahead by its momentum, as `optax.nadam`.
      moment_dtype: type of the first moment; `None` keeps the parameters' type. The
        paper uses bfloat16.
      mask: leaves to decay, as in `sgd`.

    All numbers may be arrays, also traced ones, as in `sgd`.

    Raises: see `sgd`.

    >>> optimizer = adam(schedules.cosine_decay(0.1, steps=10))
    >>> updates, _ = optimizer.update(2.0, optimizer.init(1.0), 1.0)
    >>> round(float(updates), 4)
    -0.1
    """
    return optax.chain(
        *clipping(clip_norm),
        optax.scale_by_adam(mu_dtype=moment_dtype, nesterov=nesterov),
        *decoupled(learning_rate, schedule, weight_decay, mask),
    )


def decoupled(
    learning_rate: Rate,
    schedule: optax.Schedule | None,
    weight_decay: Number,
    mask: Mask | None = None,
) -> tuple[optax.GradientTransformation, ...]:
    """Returns the transformations that turn a direction a into an update.

    The update is -s(t) * (learning_rate * a + weight_decay * w). See `adam`.
    """
    check_rate(learning_rate)
    if schedule is not None:
        values.require_schedule("schedule", schedule)
    scaled: Any = optax.scale_by_schedule if callable(learning_rate) else optax.scale
    return (
        scaled(learning_rate),
        decay(weight_decay, mask),
        optax.scale_by_learning_rate(1.0 if schedule is None else schedule),
    )


def clipping(
    clip_norm: Number | None,
) -> tuple[optax.GradientTransformation, ...]:
    """Returns clipping by the global norm, or `()` for `None`.

    Infinity clips nothing and keeps the form of the state, so that a population may
    have members with and without clipping.

    Raises: ValueError if a known norm is not above 0.
    """
    if clip_norm is None:
        return ()
    if np.ndim(clip_norm) or values.known(clip_norm) != math.inf:
        remedy = "None disables clipping"
        values.require("clip_norm", clip_norm, 0, remedy, strict=True)
    return (optax.clip_by_global_norm(clip_norm),)


def decay(weight_decay: Number, mask: Mask | None) -> optax.GradientTransformation:
    """Add decayed weights to the leaves of the mask; `None` selects `kernels`.

    Raises: ValueError if a known decay is negative; at `init` and `update` if one
      above 0 matches no leaf.
    """
    values.require("weight_decay", weight_decay, 0, "0 disables decay")
    chosen = kernels if mask is None else mask
    above_zero = (values.known(weight_decay) or 0) > 0

    def checked(params):
        flags = chosen(params) if callable(chosen) else chosen
        if above_zero and jax.tree.leaves(params) and not any(jax.tree.leaves(flags)):
            named = ", ".join(map(repr, leaf_names.names(params)[:5]))
            raise ValueError(
                f"weight_decay={weight_decay} matches no leaf to decay among {named}; "
                "name leaves by mask=, or use weight_decay=0"
            )
        return flags

    return optax.add_decayed_weights(weight_decay, mask=checked)


def check_rate(learning_rate: Rate) -> None:
    """Raise ValueError unless the rate is a schedule or a finite number >= 0."""
    if not callable(learning_rate):
        remedy = "give a rate or a schedule, count -> rate"
        values.require("learning_rate", learning_rate, 0, remedy)


def warmup_cosine(steps: Any, warmup_steps: Any) -> optax.Schedule:
    """Returns a schedule linear from 0 to 1, then a half cosine to 0, no restarts.

    s(t) = t / warmup_steps while t < warmup_steps, then
    (1 + cos(pi * (t - warmup_steps) / (steps - warmup_steps))) / 2.

    Args:
      steps: total number of steps; may be traced.
      warmup_steps: at least 0 and below `steps`; may be traced.

    Raises: ValueError if the warmup is known to be negative or to take all steps.

    >>> schedule = warmup_cosine(6, 2)
    >>> [round(float(schedule(step)), 3) for step in range(7)]
    [0.0, 0.5, 1.0, 0.854, 0.5, 0.146, 0.0]
    """
    last = values.finite("steps", steps, "give the number of updates")
    warm = values.finite("warmup_steps", warmup_steps, "for no warmup use 0")
    if None not in (last, warm) and not 0 <= warm < last:
        raise ValueError(
            f"warmup_steps must lie in 0..{last - 1} for a training of {last} steps, "
            f"got {warm}; train longer or warm up for fewer steps"
        )
    cosine = schedules.cosine_decay(1.0, steps - warmup_steps)
    if warm == 0:
        return cosine
    return schedules.warmup(cosine, warmup_steps, shift=True)


def _used(number):
    """Returns False for a plain 0, which omits its part; an array's value is data."""
    return isinstance(number, jax.Array) or number != 0


def bind(make: Callable, *arguments: Any) -> optax.GradientTransformation:
    """Returns the transformation `make(*arguments)`, with its arguments as data.

    `fit` then passes them to the compiled call, so that one program serves all their
    values: rates, decays, or a whole schedule as a table of one value per step.

    Args:
      make: `(*arguments) -> optax.GradientTransformation`, with traceable arguments.
        Pass the same function again to reuse the program.
      *arguments: pytrees of arrays.

    >>> import jax.numpy as jnp
    >>> optimizer = bind(sgd, jnp.float32(0.5))
    >>> updates, _ = optimizer.update(2.0, optimizer.init(1.0), 1.0)
    >>> float(updates)
    -1.0
    """
    init, update = _unbound(make)
    return optax.GradientTransformationExtraArgs(
        jax.tree_util.Partial(init, arguments), jax.tree_util.Partial(update, arguments)
    )


@functools.lru_cache
def _unbound(make):
    """Returns `init` and `update` that take the arguments first; cached per `make`."""

    def init(arguments, params):
        return make(*arguments).init(params)

    def update(arguments, updates, state, params=None, **extra_args):
        made = optax.with_extra_args_support(make(*arguments))
        return made.update(updates, state, params, **extra_args)

    return init, update


def kernels(params):
    """Returns a mask that is true on kernels, for parameters of any library.

    A kernel is a leaf whose last key is "kernel", as in Flax. In an Equinox module it
    is the "weight" of a `Linear`, `Conv` or `ConvTranspose`, the "weight_ih" and
    "weight_hh" of a cell, and a "weight" with two axes or more in a custom module. The
    "weight" of a norm or an `Embedding` is not a kernel; Flax calls these "scale" and
    "embedding". Other leaves, such as those with PyTorch's names, need a custom mask.

    >>> kernels({"fc": {"kernel": 1.0, "bias": 0.0}})
    {'fc': {'bias': False, 'kernel': True}}
    """
    flags = [leaf.kind == leaf_kinds.KERNEL for leaf in leaf_kinds.leaf_kinds(params)]
    return jax.tree.structure(params).unflatten(flags)
