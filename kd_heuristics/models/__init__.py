"""Models by name: `models.create("vgg16", num_classes=10, width=0.25)`."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import flax.linen as nn

from kd_heuristics import nearest
from kd_heuristics.models.network import Network, from_linen
from kd_heuristics.models.vgg import STAGES, VGG

__all__ = ["Network", "create", "from_linen", "names"]


def create(name: str, num_classes: int, **options: Any) -> Network:
    """The network of that name, as pure functions (see `Network`).

    Args:
      name: one of `names()`.
      num_classes: number of logits, at least 2.
      **options: the model's own, by keyword: `width`, `classifier_width`,
        `dropout_rate`, `init_factor`, `batch_norm_momentum`, `dtype` for VGG.

    Raises:
      ValueError: an unknown name or option (the nearest valid one is named), a class
        count below 2, or an option out of its range.

    >>> import jax, jax.numpy as jnp
    >>> network = create("vgg16", num_classes=10)
    >>> images = jnp.zeros((1, 32, 32, 3))
    >>> variables = jax.eval_shape(network.init, jax.random.key(0), images)
    >>> sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    15245130
    """
    check(name, num_classes, **options)
    return from_linen(name, _MODULES[name](num_classes=num_classes, **options))


def names() -> tuple[str, ...]:
    """The names that `create` knows.

    >>> "vgg11_bn" in names()
    True
    """
    return tuple(_MODULES)


def check(name: str, num_classes: int, **options: Any) -> None:
    """Raises what `create` would for these arguments, without making anything."""
    nearest.choose(name, names(), "model")
    fixed = ("self", "parent", "name", "num_classes", *_MODULES[name].keywords)
    module = _MODULES[name].func
    known = [key for key in inspect.signature(module).parameters if key not in fixed]
    for option in options:
        nearest.choose(option, known, f"option of {name}")
    if num_classes < 2:
        raise ValueError(f"num_classes must be at least 2, got {num_classes}")
    for option, (valid, words) in _RANGES.items():
        if option in options and not valid(options[option]):
            raise ValueError(f"{option} must be {words}, got {options[option]}")


_MODULES: dict[str, functools.partial[nn.Module]] = {
    f"vgg{depth}{suffix}": functools.partial(
        VGG, stages=STAGES[depth], use_batch_norm=bool(suffix)
    )
    for depth in (11, 16)
    for suffix in ("", "_bn")
}

_RANGES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "width": (lambda value: value > 0, "positive"),
    "classifier_width": (lambda value: value >= 1, "at least 1"),
    "dropout_rate": (lambda value: 0 <= value < 1, "in [0, 1)"),
    "init_factor": (lambda value: value > 0, "positive"),
    "batch_norm_momentum": (lambda value: 0 <= value < 1, "in [0, 1)"),
}
