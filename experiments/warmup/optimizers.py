"""The optimisers of the arms. One program serves all; its arguments differ."""

import functools
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
import optax

from experiments.warmup.config import ARMS, NEVER, Config
from experiments.warmup.layers import layer_of
from kd_heuristics import freezing, training
from kd_heuristics.pytrees import leaf_names


def shared(fc: frozenset[str], chosen: frozenset[str], config: Config) -> Callable:
    """SGD as a function of what differs between arms.

    Args:
      fc: paths of the parameters of the FC stack.
      chosen: layers that "random" freezes.
      config: of the study.
    """

    def labels(params):
        return leaf_names.tree_map(
            lambda path, _: "fc" if path in fc else "rest", params
        )

    def make(rates, clip_norm, starts, length):
        optimizer = optax.chain(
            optax.clip_by_global_norm(clip_norm),
            optax.add_decayed_weights(config.weight_decay, mask=config.decay_mask),
            optax.multi_transform(
                {
                    group: optax.sgd(
                        functools.partial(_look_up, table), config.momentum
                    )
                    for group, table in rates.items()
                },
                labels,
            ),
        )
        # Each freezes in its own arm only; in the others it starts after the end.
        frozen = {
            "fc": lambda path: path in fc,
            "conv": lambda path: path not in fc,
            "random": lambda path: path not in fc and layer_of(path) in chosen,
        }
        for name, predicate in frozen.items():
            optimizer = freezing.freeze(
                optimizer, predicate, starts[name] + length, starts[name]
            )
        return optimizer

    return make


def _look_up(table, step):
    return table[step]


def of_arm(
    make: Callable, config: Config, arm: str, steps_per_epoch: int, length: int
) -> optax.GradientTransformation:
    """The optimiser of one arm, from `make = shared(...)`.

    The warmup, and freezing, take `length` steps.
    """
    kind, rates = ARMS[arm], config.rates(arm, steps_per_epoch)
    return training.bind(
        make,
        {layers: jnp.asarray(table) for layers, table in rates.items()},
        jnp.float32(config.clip_norm if kind.clip else np.inf),
        {
            name: jnp.int32(0 if kind.freeze == name else NEVER)
            for name in ("fc", "conv", "random")
        },
        jnp.int32(length),
    )
