"""The optimisers of the papers: decay on kernels, clipping, schedules as data."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import optax

from kd_heuristics import schedules
from kd_heuristics.schedules import values


def sgd(
    learning_rate: optax.ScalarOrSchedule,
    momentum: float | jax.Array = 0.9,
    weight_decay: float | jax.Array = 0.0,
    clip_norm: float | jax.Array | None = None,
) -> optax.GradientTransformation:
    """SGD with momentum and coupled L2 decay, as in PyTorch.

    g = clip(dL/dw) + weight_decay * w for kernels; m = momentum * m + g;
    w = w - learning_rate * m.

    Args:
      learning_rate: a number or an `optax.Schedule` of the step.
      momentum: in [0, 1).
      weight_decay: L2 coefficient, on leaves named "kernel" only: biases and
        batch-norm scales are not decayed.
      clip_norm: largest global norm of the gradient, before decay; None: unclipped.

    All numbers may be arrays, traced ones too, so that the members of a population
    differ in them.
    """
    return optax.chain(
        *([] if clip_norm is None else [optax.clip_by_global_norm(clip_norm)]),
        *(
            [optax.add_decayed_weights(weight_decay, mask=kernels)]
            if _used(weight_decay)
            else []
        ),
        optax.sgd(learning_rate, momentum=momentum if _used(momentum) else None),
    )


def adam(
    learning_rate: float | jax.Array,
    schedule: optax.Schedule | None = None,
    weight_decay: float | jax.Array = 0.0,
    clip_norm: float | jax.Array | None = 1.0,
    *,
    moment_dtype: Any = None,
) -> optax.GradientTransformation:
    """Adam with a decay that the rate does not multiply (Beyer et al. 2022).

    w = w - s(t) * (learning_rate * a + weight_decay * w) for kernels, a Adam's step
    (b1 0.9, b2 0.999, eps 1e-8) of the clipped gradient, s the schedule, which peaks
    at 1. `optax.adamw(lambda t: learning_rate * s(t), weight_decay=decay)` multiplies
    its decay by the rate: it is this one with decay = weight_decay / learning_rate.

    Args:
      learning_rate: at the schedule's peak.
      schedule: s; None: 1 throughout. `warmup_cosine` is the paper's.
      weight_decay: a step's share at the schedule's peak, on leaves named "kernel"
        only; not multiplied by the rate.
      clip_norm: largest global norm of the gradient; None: unclipped.
      moment_dtype: of the first moment; None: the parameters'. The paper's is bfloat16.

    All numbers may be arrays, traced ones too, as in `sgd`.
    """
    return optax.chain(
        *([] if clip_norm is None else [optax.clip_by_global_norm(clip_norm)]),
        optax.scale_by_adam(mu_dtype=moment_dtype),
        *decoupled(learning_rate, schedule, weight_decay),
    )


def decoupled(
    learning_rate: float | jax.Array,
    schedule: optax.Schedule | None,
    weight_decay: float | jax.Array,
) -> tuple[optax.GradientTransformation, ...]:
    """What follows a direction a: - s(t) * (learning_rate * a + weight_decay * w).

    Args: as of `adam`.
    """
    return (
        optax.scale(learning_rate),
        optax.add_decayed_weights(weight_decay, mask=kernels),
        optax.scale_by_learning_rate(1.0 if schedule is None else schedule),
    )


def warmup_cosine(steps: Any, warmup_steps: Any) -> optax.Schedule:
    """Linear from 0 to 1, then one half cosine to 0, without restarts.

    s(t) = t / warmup_steps while t < warmup_steps, then
    (1 + cos(pi * (t - warmup_steps) / (steps - warmup_steps))) / 2.

    Args:
      steps: in all; may be traced.
      warmup_steps: at least 0, below `steps`; may be traced.

    Raises: ValueError where the warmup is known to be negative or to take all steps.

    >>> schedule = warmup_cosine(6, 2)
    >>> [round(float(schedule(step)), 3) for step in range(7)]
    [0.0, 0.5, 1.0, 0.854, 0.5, 0.146, 0.0]
    """
    last, warm = values.known(steps), values.known(warmup_steps)
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
    """False for a plain 0, which leaves its part out; an array's value is data."""
    return isinstance(number, jax.Array) or number != 0


def bind(make: Callable, *arguments: Any) -> optax.GradientTransformation:
    """The transformation `make(*arguments)`, with its arguments as data.

    `fit` then passes them to the compiled call, so that one program serves every value
    of them: rates, decays, or a whole schedule as a table of one value a step.

    Args:
      make: `(*arguments) -> optax.GradientTransformation`, of traceable arguments. Give
        the same function again to reuse the program.
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
    """`init` and `update` that take the arguments first; the same ones for a `make`."""

    def init(arguments, params):
        return make(*arguments).init(params)

    def update(arguments, updates, state, params=None, **extra_args):
        inner = optax.with_extra_args_support(make(*arguments))
        return inner.update(updates, state, params, **extra_args)

    return init, update


def kernels(params):
    """A mask that is true on the leaves whose last key is "kernel".

    >>> kernels({"fc": {"kernel": 1.0, "bias": 0.0}})
    {'fc': {'bias': False, 'kernel': True}}
    """

    def is_kernel(path, _):
        name = jax.tree_util.keystr(path[-1:], simple=True)
        return name == "kernel"

    return jax.tree_util.tree_map_with_path(is_kernel, params)
