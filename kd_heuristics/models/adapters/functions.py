"""Adapts plain functions to a `Network`."""

from collections.abc import Callable
from typing import Any

import jax

from kd_heuristics.models.form import Form
from kd_heuristics.models.network import Network

PyTree = Any


def from_functions(
    name: str,
    init: Callable[[jax.Array, jax.Array], PyTree],
    apply: Callable[[PyTree, jax.Array], jax.Array],
    *,
    train: Callable[[PyTree, jax.Array, jax.Array], tuple[jax.Array, PyTree]]
    | None = None,
    features: Callable[[PyTree, jax.Array], dict[str, jax.Array]] | None = None,
    train_features: Callable[
        [PyTree, jax.Array, jax.Array], tuple[dict[str, jax.Array], PyTree]
    ]
    | None = None,
    inputs: str = "images",
) -> Network:
    """Makes a `Network` of pure functions that JAX can trace.

    Args:
      name: name for messages and run folders.
      init: `(key, images) -> {"params": tree}`, with "batch_stats" if the model has
        running statistics. Nested dictionaries whose kernels are named "kernel" also
        suit `training.kernels`.
      apply: `(variables, images) -> logits [batch, classes]`, in evaluation mode;
        images are float [batch, h, w, c].
      train: `(variables, images, key) -> (logits, batch_stats)`, in training mode;
        `None` uses `apply` and keeps the statistics.
      features: `(variables, images) -> {"00_conv": array, ...}`, in evaluation mode;
        `None` gives the logits alone, as "00_logits".
      train_features: `(variables, images, key) -> (features, batch_stats)`, in training
        mode, for students that learn from hints or flow matrices; `None` uses
        `features` if there is no `train`, and else raises ValueError when called.
      inputs: "any" lifts the check of the logits, for instance for a language model.

    Returns: the network; its logits are float32.

    Raises: ValueError when the network is called, before it computes anything, if
      `init` returns another dictionary or the logits are not [batch, classes].

    >>> import jax.numpy as jnp
    >>> def init(key, images):
    ...     return {"params": jnp.zeros((images[0].size, 10))}
    >>> def apply(variables, images):
    ...     return images.reshape(len(images), -1) @ variables["params"]
    >>> network = from_functions("linear", init, apply)
    >>> images = jnp.ones((2, 8, 8, 1))
    >>> network.apply(network.init(jax.random.key(0), images), images).shape
    (2, 10)
    """
    form = Form(name, inputs)

    def checked_init(key, images):
        variables = init(key, images)
        _check_variables(name, variables)
        jax.eval_shape(evaluate, variables, images)  # raises on bad logits
        return variables

    def evaluate(variables, images):
        return form.outputs(apply(variables, images), images)

    def step(variables, images, key):
        if train is None:
            return evaluate(variables, images), variables.get("batch_stats", {})
        logits, batch_stats = train(variables, images, key)
        return form.outputs(logits, images), batch_stats

    def only_logits(variables, images):
        return {"00_logits": evaluate(variables, images)}

    shown = features or only_logits

    def same_features(variables, images, key):
        return shown(variables, images), variables.get("batch_stats", {})

    if train_features is None and train is None:
        train_features = same_features
    own: dict[str, Any] = {}
    if train_features is not None:
        own["train_features"] = train_features
    return Network(
        name=name,
        init=checked_init,
        apply=evaluate,
        train=step,
        features=shown,
        **own,
    )


def _check_variables(name, variables):
    """Raises ValueError for variables with other keys than a `Network`'s."""
    keys = sorted(variables) if isinstance(variables, dict) else None
    if keys not in (["params"], ["batch_stats", "params"]):
        found = type(variables).__name__ if keys is None else f"the keys {keys}"
        raise ValueError(
            f'the init of {name} must return {{"params": tree}}, with "batch_stats" '
            f"beside it if there are any; it returned {found}"
        )
