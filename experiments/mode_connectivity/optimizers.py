"""The optimisers of the modes."""

import functools
import operator
from collections.abc import Callable

import optax

from experiments.mode_connectivity.config import Config
from kd_heuristics import training


def sgd(config: Config) -> Callable:
    """SGD of all modes but B, as a function of the arguments in which they differ."""

    def make(rates, weight_decay, clip_norm):
        rate = functools.partial(operator.getitem, rates)
        return training.sgd(
            rate, config.momentum, weight_decay, clip_norm, mask=config.decay_mask
        )

    return make


def adam(config: Config) -> Callable:
    """Adam of mode B: clips gradients, then adds the decay, as in `sgd`."""

    def make(rates, weight_decay, clip_norm):
        return optax.chain(
            optax.clip_by_global_norm(clip_norm),
            optax.add_decayed_weights(weight_decay, mask=config.decay_mask),
            optax.adam(functools.partial(operator.getitem, rates)),
        )

    return make
