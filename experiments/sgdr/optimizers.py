"""The optimiser of all arms: one program, whose rates are a table."""

from collections.abc import Callable

from experiments.sgdr.config import Config
from kd_heuristics import training


def sgd(config: Config) -> Callable:
    """SGD as a function of the rates, a table of one value a step."""

    def make(rates):
        return training.sgd(
            lambda step: rates[step],
            config.momentum,
            config.weight_decay,
            config.clip_norm,
            mask=config.decay_mask,
        )

    return make
