"""Defines `Network`: a model as a few pure functions.

Studies and tools call a `Network` and never the module behind it. A model of another
library fits in by providing the same functions.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from kd_heuristics.data import image_layout
from kd_heuristics.runtime.compiled import once

PyTree = Any


def _no_train_features(variables, images, key):
    """Raises ValueError in place of a missing `train_features`."""
    raise ValueError(
        "this network has no train_features, which hints and flow matrices of a "
        "student need; add it by dataclasses.replace(network, train_features=...), as "
        "(variables, images, key) -> (features, batch_stats) in training mode"
    )


@dataclasses.dataclass(frozen=True)
class Network:
    """A model as pure functions of a dictionary of variables.

    `variables` is `{"params": tree}`, with `"batch_stats"` if the model has running
    statistics. `images` are float [batch, h, w, c]. Logits are float32 [batch,
    classes], whatever the compute dtype.

    Attributes:
      name: name of the model, as given to `models.create`.
      init: `(key, images) -> variables`.
      apply: `(variables, images) -> logits`, in evaluation mode.
      train: `(variables, images, key) -> (logits, batch_stats)`, in training mode;
        the statistics are `{}` if the model has none.
      features: `(variables, images) -> {"00_conv": array, ...}`, every layer's output
        in evaluation mode. The zero-padded index keeps the order under jit, which sorts
        keys.
      train_features: `(variables, images, key) -> (features, batch_stats)`, in training
        mode, for students that learn from hints or flow matrices. By default it raises
        ValueError.
      filter_axis: output axis of kernels, for `landscape.random_direction`: 0 if
        outputs come first, as in Equinox; `None` infers it from names.
    """

    name: str
    init: Callable[[jax.Array, jax.Array], PyTree]
    apply: Callable[[PyTree, jax.Array], jax.Array]
    train: Callable[[PyTree, jax.Array, jax.Array], tuple[jax.Array, PyTree]]
    features: Callable[[PyTree, jax.Array], dict[str, jax.Array]]
    train_features: Callable[
        [PyTree, jax.Array, jax.Array], tuple[dict[str, jax.Array], PyTree]
    ] = _no_train_features
    filter_axis: int | None = None


def from_linen(name: str, module: nn.Module) -> Network:
    """Makes a `Network` of a Linen module whose call returns `(logits, features)`.

    The module is called as `module(images, train=bool)` and draws its dropout from
    the stream "dropout".

    Equal hashable modules give the same network, whose functions share their compiled
    programs.

    Each function raises ValueError before it compiles anything, if the images are not
    float [batch, h, w, c].
    """
    try:
        hash(module)
    except TypeError:  # an attribute that is a list or an array
        return _from_linen(name, module)
    return _kept(name, module)


def _from_linen(name: str, module: nn.Module) -> Network:
    """Makes the network anew; `_kept` caches it."""

    @once  # compilation removes the forward pass that finds the shapes
    def init(key, images):
        check_images(images)
        return dict(module.init(key, images, train=False))

    def evaluate(variables, images) -> tuple[jax.Array, dict[str, jax.Array]]:
        check_images(images)
        outputs: Any = module.apply(variables, images, train=False)
        logits, features = outputs
        return logits.astype(jnp.float32), features

    def run(variables, images, key):
        check_images(images)
        outputs, updated = module.apply(
            variables,
            images,
            train=True,
            rngs={"dropout": key},
            mutable=["batch_stats"],
        )
        return outputs, updated.get("batch_stats", {})

    def train(variables, images, key):
        (logits, _), batch_stats = run(variables, images, key)
        return logits.astype(jnp.float32), batch_stats

    def train_features(variables, images, key):
        (_, features), batch_stats = run(variables, images, key)
        return features, batch_stats

    return Network(
        name=name,
        init=init,
        apply=lambda variables, images: evaluate(variables, images)[0],
        train=train,
        features=lambda variables, images: evaluate(variables, images)[1],
        train_features=train_features,
    )


_kept = functools.cache(_from_linen)


def check_images(images: jax.Array | np.ndarray) -> None:
    """Raises ValueError if images are not float [batch, h, w, c]."""
    image_layout.check(images.shape)
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise ValueError(
            f"images must be floating-point, got {images.dtype}; convert pixels first, "
            "for example with data.normalize"
        )
