"""The optimizers of the FunMatch study; rates and lengths are data."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import optax

from experiments.funmatch.config import Config
from kd_heuristics import schedules, training


@dataclasses.dataclass(frozen=True)
class Make:
    """`(rate, decay, steps, warmup_steps) -> optimizer`.

    Equal ones are equal functions, so that all trainings share compiled programs.

    Attributes:
      kind: "adam", "sgd" or "shampoo".
      clip_norm: largest global norm of the gradient.
      moment_dtype: of Adam's first moment.
      momentum: of SGD.
    """

    kind: str
    clip_norm: float
    moment_dtype: str
    momentum: float

    def schedule(self, steps: Any, warmup_steps: Any) -> optax.Schedule:
        """The rate from 0 to 1 and back: a half cosine, for Shampoo a parabola."""
        if self.kind != "shampoo":
            return training.warmup_cosine(steps, warmup_steps)

        def parabola(count):
            left = 1 - count / jnp.maximum(steps - warmup_steps, 1)
            return jnp.clip(left, 0, 1) ** 2

        return schedules.warmup(parabola, warmup_steps, shift=True)

    def __call__(self, rate, decay, steps, warmup_steps):
        schedule, clip_norm = self.schedule(steps, warmup_steps), self.clip_norm
        if self.kind == "adam":
            dtype = self.moment_dtype
            return training.adam(
                rate, schedule, decay, clip_norm=clip_norm, moment_dtype=dtype
            )
        if self.kind == "shampoo":
            return training.shampoo(rate, schedule, decay, clip_norm=clip_norm)
        return optax.chain(
            optax.clip_by_global_norm(clip_norm),
            optax.trace(self.momentum),
            *training.decoupled(rate, schedule, decay),
        )


def warmup_steps(config: Config, kind: str) -> int:
    """Steps of the warmup of a kind of optimizer."""
    return config.shampoo_warmup_steps if kind == "shampoo" else config.warmup_steps


def create(
    config: Config, kind: str, rate: float, decay: float, steps: int
) -> optax.GradientTransformation:
    """Creates an optimizer with the study's warmup.

    Args:
      config: of the study.
      kind: "adam", "sgd" or "shampoo".
      rate: Adam's peak rate; the other kinds multiply it by their factor.
      decay: weight decay of kernels, which the rate does not multiply; Shampoo has its
        own.
      steps: length of the training.
    """
    make = Make(kind, config.clip_norm, config.moment_dtype, config.sgd_momentum)
    factor = {
        "adam": 1.0,
        "sgd": config.sgd_rate_factor,
        "shampoo": config.shampoo_rate_factor,
    }[kind]
    if kind == "shampoo":
        decay = config.shampoo_decay
    numbers = (factor * rate, decay, steps, warmup_steps(config, kind))
    return training.bind(make, *map(jnp.float32, numbers))
