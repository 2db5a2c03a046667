"""Adapts Equinox modules to a `Network`."""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from kd_heuristics.models.adapters.naming import Naming
from kd_heuristics.models.form import Form
from kd_heuristics.models.network import Network
from kd_heuristics.pytrees import leaf_names
from kd_heuristics.runtime.compiled import once
from kd_heuristics.similarity.equinox import numbered_calls, recorded


def from_equinox(
    name: str,
    make: Callable[[jax.Array], Any],
    *,
    features: Callable[..., Any] | None = None,
    channels_first: bool = True,
    axis_name: str = "batch",
    inputs: str = "images",
) -> Network:
    """Makes a `Network` of an Equinox module that maps one image to its logits.

    The module is called under `jax.vmap`, as Equinox's documentation recommends:

    | a module | is called as |
    |---|---|
    | without state | `module(image)` -> logits |
    | with `eqx.nn.StateIndex` (`eqx.nn.BatchNorm`) | `module(image, state)` -> \
(logits, state) |
    | whose call has a parameter `key` | likewise, with `key=` added |

    `eqx.nn.inference_mode` sets its mode. In training, each example has its own key,
    derived from the step's; in evaluation the keys are fixed.

    Variables are nested dictionaries by attribute and index, such as "layers/0/bias".
    All floating-point arrays are parameters, as with `eqx.is_inexact_array`. The
    weights of `eqx.nn.Linear`, `Conv` and `ConvTranspose` are named "kernel", as
    `training.kernels` expects. The state and all other arrays are under "batch_stats".

    Args:
      name: name for messages and run folders.
      make: `key -> eqx.Module`, without `eqx.nn.make_with_state`. It is called once for
        the structure, without allocating, and at each `init`.
      features: function called like the module, for instance a method through its
        class, `Net.features`. It returns `{"00_conv": array, ...}` for one image in
        place of logits, in evaluation and in training mode. `None` gives the outputs
        of all submodules, named as by `similarity.capture`.
      channels_first: whether to pass images [h, w, c] to the module as [c, h, w], which
        Equinox's convolutions and pools expect; false passes them unchanged.
      axis_name: name of the vmap axis over examples, as given to `eqx.nn.BatchNorm`.
      inputs: "any" lifts the checks of images and logits, for instance for tokens,
        which are passed unchanged.

    Returns: the network; its logits are float32.

    Raises: ImportError if Equinox is not installed. ValueError if `make` does not
      return a callable module. When called, before it computes anything, the network
      raises ValueError if the images are not float [batch, h, w, c], the logits are not
      [batch, classes], or the variables belong to another model.

    >>> import equinox as eqx
    >>> class Linear(eqx.nn.Linear):
    ...     def __call__(self, image):
    ...         return super().__call__(image.ravel())
    >>> network = from_equinox("linear", lambda key: Linear(64, 10, key=key))
    >>> images = jnp.ones((2, 8, 8, 1))
    >>> variables = network.init(jax.random.key(0), images)
    >>> sorted(variables["params"]), network.apply(variables, images).shape
    (['bias', 'kernel'], (2, 10))
    """
    eqx = _import()
    form = Form(name, inputs)
    layout = _Layout(eqx, name, make)

    mapped = _mapping(eqx, layout, form, channels_first, axis_name)

    def evaluate(function, variables, images):
        keys = jax.random.split(jax.random.key(0), images.shape[0])
        return mapped(function, variables, images, keys, inference=True)[0]

    @once
    def init(key, images):
        variables = layout.split(*eqx.nn.make_with_state(make)(key))
        jax.eval_shape(apply, variables, images)  # raises on bad images and logits
        return variables

    def apply(variables, images):
        return form.outputs(evaluate(layout.call, variables, images), images)

    def train(variables, images, key):
        keys = jax.random.split(key, images.shape[0])
        logits, state = mapped(layout.call, variables, images, keys, inference=False)
        logits = form.outputs(logits, images)
        return logits, layout.statistics(variables, state)

    own = _captured if features is None else features
    number = numbered_calls if features is None else _as_they_are

    def all_features(variables, images):
        return number(lambda *given: evaluate(own, *given), variables, images)

    def train_features(variables, images, key):
        keys = jax.random.split(key, images.shape[0])

        def run(variables, images):
            return mapped(own, variables, images, keys, inference=False)

        _, state = run(variables, images)
        found = number(lambda *given: run(*given)[0], variables, images)
        return found, layout.statistics(variables, state)

    return Network(
        name, init, apply, train, all_features, train_features, filter_axis=0
    )


def _captured(model, image, *state, **keys):
    """Returns the outputs of all submodules in place of logits."""
    found, outputs = recorded(model, image, *state, **keys)
    return (found, outputs[1]) if state else found


def _mapping(eqx, layout, form, channels_first, axis_name):
    """Makes the function that calls a module for all images."""

    def mapped(function, variables, images, keys, *, inference):
        """Returns the function's values for all images, and the new state."""
        form.check(images)
        model, state = layout.merge(variables)
        model = eqx.nn.inference_mode(model, value=inference)
        if channels_first and form.images:
            images = images.transpose(0, 3, 1, 2)

        def one(image, key):
            takes = layout.call if function is _captured else function
            keys = {"key": key} if _takes_key(takes) else {}
            if layout.state_names.names:
                return function(model, image, state, **keys)
            return function(model, image, **keys), state

        return jax.vmap(one, out_axes=(0, None), axis_name=axis_name)(images, keys)

    return mapped


class _Layout:
    """Names the arrays of a module and its state, and keeps what is not an array."""

    def __init__(self, eqx, name, make):
        key = jax.random.key(0)
        model, state = eqx.filter_eval_shape(eqx.nn.make_with_state(make), key)
        if not isinstance(model, eqx.Module) or not callable(model):
            raise ValueError(
                "make must return an eqx.Module with a __call__ that maps an image to "
                f"its logits, got {type(model).__name__}"
            )
        self._eqx = eqx
        self.call = type(model).__call__
        params, rest = eqx.partition(model, _is_inexact)
        buffers, self._static = eqx.partition(rest, _is_array)
        self._param_names = Naming.of(
            f"parameters of {name}", params, _with_kernels(eqx, model)
        )
        self._buffer_names = Naming.of(f"arrays of {name}", buffers)
        self.state_names = _state_naming(eqx, f"state of {name}", model, state)

    def split(self, model, state):
        """Splits a module and its state into variables."""
        params, rest = self._eqx.partition(model, _is_inexact)
        buffers = self._eqx.filter(rest, _is_array)
        stats = {}
        if self._buffer_names.names:
            stats["arrays"] = self._buffer_names.to_dict(buffers)
        if self.state_names.names:
            stats["state"] = self.state_names.to_dict(state)
        variables = {"params": self._param_names.to_dict(params)}
        return variables | ({"batch_stats": stats} if stats else {})

    def merge(self, variables):
        """Rebuilds the module and its state from variables."""
        stats = variables.get("batch_stats", {})
        model = self._eqx.combine(
            self._param_names.to_tree(variables["params"]),
            self._buffer_names.to_tree(stats.get("arrays", {})),
            self._static,
        )
        return model, self.state_names.to_tree(stats.get("state", {}))

    def statistics(self, variables, state):
        """Returns the "batch_stats" of the variables, with a new state."""
        stats = dict(variables.get("batch_stats", {}))
        if self.state_names.names:
            stats["state"] = self.state_names.to_dict(state)
        return stats


def _as_they_are(run, variables, images):
    """Returns the user's features under the user's names."""
    return run(variables, images)


def _import():
    """Imports Equinox; the ImportError names the command that installs it."""
    try:
        import equinox
    except ImportError as error:
        raise ImportError(
            "from_equinox needs Equinox, which kd_heuristics does not install: "
            "pip install equinox"
        ) from error
    return equinox


def _is_array(leaf):
    return isinstance(leaf, jax.Array | jax.ShapeDtypeStruct)


def _is_inexact(leaf):
    return _is_array(leaf) and jnp.issubdtype(leaf.dtype, jnp.inexact)


def _takes_key(function):
    """Whether a function accepts the keyword `key`."""
    parameters = inspect.signature(function).parameters.values()
    return any(p.name == "key" or p.kind is p.VAR_KEYWORD for p in parameters)


def _with_kernels(eqx, model):
    """Returns a renaming of parameters that calls linear layers' weights "kernel"."""
    kinds = (eqx.nn.Linear, eqx.nn.Conv, eqx.nn.ConvTranspose)
    found = jax.tree_util.tree_leaves_with_path(
        model, is_leaf=lambda node: isinstance(node, kinds)
    )
    linear = {
        leaf_names.keys_of(path) for path, node in found if isinstance(node, kinds)
    }

    def name(names):
        if names[-1] == "weight" and names[:-1] in linear:
            return (*names[:-1], "kernel")
        return names

    return name


def _state_naming(eqx, what, model, state):
    """Names a state's arrays by the position of their index in the module."""
    kind = eqx.nn.StateIndex
    nodes = jax.tree_util.tree_leaves_with_path(
        model, is_leaf=lambda node: isinstance(node, kind)
    )
    names = tuple(
        leaf_names.keys_of(path) + own
        for path, node in nodes
        if isinstance(node, kind)
        for own in leaf_names.keys(state.get(node))
    )
    return Naming(what, names, jax.tree.structure(state))
