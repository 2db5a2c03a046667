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

from kd_heuristics.models.form import Form
from kd_heuristics.runtime.compiled import once
from kd_heuristics.similarity.flax_outputs import of_linen
from kd_heuristics.similarity.numbering import numbered

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
    statistics. `images` are float [batch, h, w, c], and logits float32 [batch,
    classes], whatever the compute dtype. With `inputs="any"`, an adapter takes tokens
    or tables too, and returns any float32 [batch, ...].

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


def from_linen(name: str, module: nn.Module, *, inputs: str = "images") -> Network:
    """Makes a `Network` of a Linen module that maps images to logits.

    The module is called as `module(images, train=bool)` and draws its dropout from
    the stream "dropout". It returns logits, and the features are the outputs of all
    submodules, named as by `similarity.capture`; or it returns `(logits, features)`.

    Args:
      name: name for messages and run folders.
      module: the module.
      inputs: "any" lifts the checks of images and logits, for instance for tokens.

    Equal hashable modules give the same network, whose functions share their compiled
    programs.

    Each function raises ValueError before it compiles anything, if the images are not
    float [batch, h, w, c], or the outputs no logits.
    """
    form = Form(name, inputs)
    try:
        hash(module)
    except TypeError:  # an attribute that is a list or an array
        return _from_linen(form, module)
    return _kept(form, module)


def _from_linen(form: Form, module: nn.Module) -> Network:
    """Makes the network anew; `_kept` caches it."""

    @once  # compilation removes the forward pass that finds the shapes
    def init(key, images):
        form.check(images)
        return dict(module.init(key, images, train=False))

    def call(variables, images, key, training, **options) -> tuple[Any, Any]:
        """Returns the outputs and the changed collections."""
        form.check(images)
        mutable = ["batch_stats"] * training + ["intermediates"] * bool(options)
        rngs = {} if key is None else {"dropout": key}
        given: dict[str, Any] = {"train": training, "rngs": rngs} | options
        given["mutable"] = mutable or False
        found = module.apply(variables, images, **given)
        return found if mutable else (found, {})

    def outputs(variables, images, key=None, training=True):
        found, updated = call(variables, images, key, training)
        logits = found[0] if isinstance(found, tuple) else found
        return form.outputs(logits, images), updated.get("batch_stats", {})

    def named(variables, images, key=None, training=True):
        """Returns the features and new statistics."""
        found, updated = call(variables, images, key, training)
        if isinstance(found, tuple):
            return found[1], updated.get("batch_stats", {})

        def recorded(variables, images):
            return of_linen(
                lambda **options: call(variables, images, key, training, **options)[1]
            )

        return (
            numbered(recorded, variables, images),
            updated.get("batch_stats", {}),
        )

    return Network(
        name=form.name,
        init=init,
        apply=lambda variables, images: outputs(variables, images, training=False)[0],
        train=outputs,
        features=lambda variables, images: named(variables, images, training=False)[0],
        train_features=named,
    )


_kept = functools.cache(_from_linen)
