"""What every model of ours is to the rest of the code: a few pure functions.

Studies and tools call a `Network` and never the module behind it, so a model of
another library fits in by giving the same functions.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from kd_heuristics import image_layout
from kd_heuristics.compiled import once

PyTree = Any


def _no_train_features(variables, images, key):
    raise ValueError(
        "this network has no train_features, which hints and flow matrices of a "
        "student need; give dataclasses.replace(network, train_features=...), "
        "(variables, images, key) -> (features, batch_stats) in training mode"
    )


@dataclasses.dataclass(frozen=True)
class Network:
    """A model as pure functions over a dictionary of variables.

    `variables` is `{"params": tree}`, and `"batch_stats"` beside it where the model
    has running statistics. `images` are float [batch, h, w, c]; logits are float32
    [batch, classes] whatever the compute dtype.

    Attributes:
      name: the name under which `models.create` made it.
      init: `(key, images) -> variables`.
      apply: `(variables, images) -> logits`, in evaluation mode.
      train: `(variables, images, key) -> (logits, batch_stats)`, in training mode;
        the statistics are `{}` where the model has none.
      features: `(variables, images) -> {"00_conv": array, ...}`, in evaluation mode,
        every layer's output; the zero-padded index keeps the order under jit, which
        sorts keys.
      train_features: `(variables, images, key) -> (features, batch_stats)`, in training
        mode: what a student learns hints and flow matrices by. A network made without
        it raises ValueError there.
      filter_axis: of kernels, as `landscape.random_direction` takes it: 0 where outputs
        are first, as in Equinox; `None` where names tell.
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
    """The `Network` of a Linen module whose call returns `(logits, features)`.

    The module is called as `module(images, train=bool)` and draws its dropout from
    the stream "dropout".

    Equal modules that can be hashed give one network, whose functions share their
    compiled programs.

    Each function raises ValueError, before anything is compiled, where the images are
    not float [batch, h, w, c].
    """
    try:
        hash(module)
    except TypeError:  # an attribute that is a list or an array
        return _from_linen(name, module)
    return _kept(name, module)


def _from_linen(name: str, module: nn.Module) -> Network:
    @once  # compiled, it leaves out the forward pass that finds the shapes
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
    """Raises ValueError where images are not float [batch, h, w, c]."""
    image_layout.check(images.shape)
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise ValueError(
            f"images must be floating-point, got {images.dtype}; convert pixels first, "
            "for example with data.normalize"
        )
