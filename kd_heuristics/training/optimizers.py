"""The optimiser of the papers: SGD with momentum, decay on kernels, clipping."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import optax


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
    return optax.GradientTransformation(
        jax.tree_util.Partial(init, arguments), jax.tree_util.Partial(update, arguments)
    )


@functools.lru_cache
def _unbound(make):
    """`init` and `update` that take the arguments first; the same ones for a `make`."""

    def init(arguments, params):
        return make(*arguments).init(params)

    def update(arguments, updates, state, params=None):
        return make(*arguments).update(updates, state, params)

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
