"""The optimizers of the FunMatch study; rates and lengths are data."""

import dataclasses

import jax.numpy as jnp
import optax

from experiments.funmatch.config import Config
from kd_heuristics import training


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

    def __call__(self, rate, decay, steps, warmup_steps):
        schedule, clip_norm = (
            training.warmup_cosine(steps, warmup_steps),
            self.clip_norm,
        )
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


def create(
    config: Config, kind: str, rate: float, decay: float, steps: int
) -> optax.GradientTransformation:
    """Creates an optimizer with the study's warmup.

    Args:
      config: of the study.
      kind: "adam", "sgd" or "shampoo".
      rate: Adam's peak rate; the other kinds multiply it by their factor.
      decay: weight decay of kernels, which the rate does not multiply.
      steps: length of the training.
    """
    make = Make(kind, config.clip_norm, config.moment_dtype, config.sgd_momentum)
    factor = {
        "adam": 1.0,
        "sgd": config.sgd_rate_factor,
        "shampoo": config.shampoo_rate_factor,
    }[kind]
    numbers = (factor * rate, decay, steps, config.warmup_steps)
    return training.bind(make, *map(jnp.float32, numbers))
